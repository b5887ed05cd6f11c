"""Secrets of a connection: read from the environment or a file when needed, never an option.

A secret read from a file is read again for every request, so that one that was exchanged is used
without a restart. No error text holds one.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from imdiffusion.errors import ConfigError

_MOST_BYTES = 64 * 1024  # a longer "secret" is some other file


def secret(what: str, *, env: str, file: str) -> str:
    """The secret called `what`: of environment variable `env` or of `file`; "" if neither is given.

    White space at its ends does not count. ConfigError if both are given, if it cannot be read, or
    if it is empty.
    """
    if env and file:
        raise ConfigError(
            f"{what}_env and {what}_file are both given", remedy="Leave one of them out."
        )
    if env:
        found, where = os.environ.get(env), f"the environment variable {env}"
        if found is None:
            raise ConfigError(f"{where}, which {what}_env names, is not set", remedy="Set it.")
    elif file:
        found, where = _read(what, file), f"the file {file}"
    else:
        return ""
    if not found.strip():
        raise ConfigError(
            f"{where}, which should hold the {what}, is empty", remedy="Put the secret there."
        )
    return found.strip()


def authorization(*, token: str, user: str, password: str) -> str:
    """The header's text: Bearer for a token, Basic for a user, "" for neither.

    ConfigError for both, and for what no header can hold; it does not repeat the secret.
    """
    if token and user:
        raise ConfigError(
            "a token and a user are both given", remedy="Leave out token_env/token_file or user."
        )
    if token:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ConfigError(
                "the token holds spaces or characters that no HTTP header can hold",
                remedy="Look whether token_env or token_file names the right thing.",
            )
        return f"Bearer {token}"
    if not user:
        return ""
    if ":" in user:
        raise ConfigError(
            "user holds a colon, which basic authentication cannot send",
            remedy="Give the password by password_env or password_file.",
        )
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _read(what: str, file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            held = stream.read(_MOST_BYTES + 1)
        if len(held) > _MOST_BYTES:
            raise ConfigError(
                f"the file {file}, which {what}_file names, is longer than 64 KiB",
                remedy="Name a file that holds the secret and nothing else.",
            )
        return held.decode()
    except OSError as error:
        raise ConfigError(
            f"cannot read the file {file}, which {what}_file names: {error.strerror}",
            remedy="Make it readable for this process.",
        ) from error
    except UnicodeDecodeError:
        # Without its cause: that would carry the bytes of the secret.
        raise ConfigError(
            f"the file {file}, which {what}_file names, is no UTF-8 text",
            remedy="Name a file that holds the secret and nothing else.",
        ) from None
