"""Who may do what: tokens for reading and for changing, and the names a request may call us by.

Without a token only this host may ask, unless `insecure` is set. A token travels in the
Authorization header alone: no cookie, no address, so that no page of another origin can use it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from dataclasses import dataclass
from hmac import compare_digest
from urllib.parse import urlsplit

from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.http import secret
from imdiffusion.schema import Fields, field

log = logging.getLogger(__name__)

READ, CHANGE = "read", "change"
SHORTEST = 16  # characters of a token; a shorter one can be guessed


@dataclass(frozen=True, slots=True)
class Access(Fields):
    """Where the service listens, and what it asks of those who come.

    The tokens are read from the environment or a file for each request, so that one that was
    exchanged holds at once.
    """

    host: str = field("127.0.0.1", "address to listen on")
    hosts: tuple[str, ...] = field((), "further names by which it is called")
    insecure: bool = field(False, "listen beyond this host without a token")
    read_token_env: str = field("", "environment variable with the token for reading")
    read_token_file: str = field("", "file with the token for reading")
    change_token_env: str = field("", "environment variable with the token for changing")
    change_token_file: str = field("", "file with the token for changing")

    def check(self) -> None:
        """ConfigError if the tokens cannot be read, are too short, or are needed and absent."""
        read, change = self._tokens()
        for what, token in (("read_token", read), ("change_token", change)):
            if token and not (token.isascii() and token.isprintable() and " " not in token):
                raise ConfigError(
                    f"the {what} holds spaces or characters that no HTTP header can hold",
                    remedy="Make a new one, for instance with: openssl rand -hex 32.",
                )
            if token and len(token) < SHORTEST:
                raise ConfigError(
                    f"the {what} has fewer than {SHORTEST} characters",
                    remedy="Make a new one, for instance with: openssl rand -hex 32.",
                )
        if read and read == change:
            raise ConfigError(
                "the tokens for reading and for changing are the same",
                remedy="Make two, or give the change_token alone: it may read as well.",
            )
        if read or is_loopback(self.host):
            return
        if not self.insecure:
            raise ConfigError(
                f"anyone who reaches {self.host} could read without a token",
                remedy="Give read_token_env or read_token_file (and change_token_... for those who "
                "may change), listen on 127.0.0.1, or set insecure.",
            )
        log.warning(
            "INSECURE: listening on %s; anyone who reaches it may %s without a token",
            self.host,
            "read" if change else "read and change",
        )

    def role(self, header: str) -> str:
        """What a request with this Authorization header may do: "change", "read" or "" (nothing).

        Compares in constant time, always with both. ConfigError: a token cannot be read just now.
        """
        read, change = self._tokens()
        scheme, _, given = header.strip().partition(" ")
        given = given.strip() if scheme.lower() == "bearer" else ""
        may_change = _same(given, change)
        may_read = _same(given, read)
        if may_change:
            return CHANGE
        if may_read:
            return READ
        if header.strip() and (read or change):
            return ""
        if not read and not change:
            return CHANGE
        return "" if read else READ

    def demands_a_token(self) -> bool:
        """Whether reading needs a token."""
        return bool(self._tokens()[0])

    def has_change_token(self) -> bool:
        """Whether there is a token with which one may change."""
        return bool(self._tokens()[1])

    def knows(self, host: str) -> bool:
        """Whether a request may call us by this Host header.

        A name of the web that points here could be read by that web page through a browser. It
        cannot where it lacks a token for reading; else only addresses, localhost and names from
        `hosts` are answered.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if not name or any(mark in host for mark in "/?#@\\"):
            return False
        known = {one.lower() for one in self.hosts}
        if name in known or name == "localhost" or _is_address(name):
            return True
        return self.demands_a_token()

    def _tokens(self) -> tuple[str, str]:
        return (
            secret("read_token", env=self.read_token_env, file=self.read_token_file),
            secret("change_token", env=self.change_token_env, file=self.change_token_file),
        )


def is_loopback(host: str) -> bool:
    """Whether only this host can reach an address; a name other than localhost may be any."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header names the very service that the Host header calls."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, token: str) -> bool:
    """Constant time whatever their lengths; no token is the same as nothing."""
    one, other = (hashlib.sha256(text.encode()).digest() for text in (given, token))
    return compare_digest(one, other) and bool(token)
