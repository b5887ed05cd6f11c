"""Requests to one server over HTTP: bounded in time and in size, and no secret in an error.

No redirect is followed and no proxy of the environment is used: what is sent goes to the address
that was configured, or nowhere. A failed connection, a time-out or an answer that is no HTTP is a
`ConnectionLost`; every complete answer, whatever its status, is a `Reply`.
"""

from __future__ import annotations

import base64
import http.client
import io
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from imdiffusion.errors import ConfigError, ConnectionLost
from imdiffusion.schema import positive


class DeadlineSocket:
    """A socket that gives up at `deadline` (monotonic seconds), however slowly bytes come.

    A plain socket's time-out counts from byte to byte, so one byte now and then holds its reader
    for ever. This has what http.client asks of a socket; past the deadline that is a TimeoutError.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self.deadline = sock, math.inf

    @classmethod
    def connect(cls, host: str, port: int, tls: ssl.SSLContext | None, deadline: float) -> Self:
        """Connect by `deadline`; OSError if that fails."""
        plain = socket.create_connection((host, port), max(0.01, deadline - time.monotonic()))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is None:
                return cls(plain)
            plain.settimeout(max(0.01, deadline - time.monotonic()))
            return cls(tls.wrap_socket(plain, server_hostname=host))
        except BaseException:
            plain.close()
            raise

    def armed(self) -> socket.socket:
        """The socket, with the time that is left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock

    def sendall(self, data: Any) -> None:
        """Send everything by the deadline."""
        self.armed().sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What comes, as a stream."""
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Nothing: http.client closes while the body is still to be read, see `hang_up`."""

    def hang_up(self) -> None:
        """Close the connection."""
        self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, wire: DeadlineSocket) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.armed().recv_into(buffer)


# -- secrets of a connection: read from the environment or a file when needed, never an option
#
# A secret read from a file is read again for every request, so that one that was exchanged is used
# without a restart. No error text holds one.

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


_LONGEST_PAUSE = 600.0  # seconds that an answer's Retry-After can keep us away
_PIECE = 64 * 1024
# Answers about the moment, and answers about the address or the credentials: the
# same message may be taken later. Any other 4xx is about the message.
_BUSY = frozenset({408, 425, 429})
_SENDER = frozenset({401, 403, 404, 405, 407})


@dataclass(kw_only=True, repr=False, eq=False)
class HttpOptions:
    """The options that every HTTP connector has.

    url: http or https, without user and password. timeout: seconds for a whole request, from the
    connection to the last byte of the answer. ca_file: certificates to trust instead of the
    system's, PEM. token_env or token_file: where a bearer token is. user with password_env or
    password_file: basic authentication.
    """

    url: str
    timeout: float = 30.0
    ca_file: str = ""
    token_env: str = ""
    token_file: str = ""
    user: str = ""
    password_env: str = ""
    password_file: str = ""

    def __post_init__(self) -> None:
        positive(timeout=self.timeout)
        if self.url:
            split_url(self.url)

    def authorization(self) -> str:
        """The Authorization header as the secrets are now; ConfigError if they cannot be had."""
        return authorization(
            token=secret("token", env=self.token_env, file=self.token_file),
            user=self.user,
            password=secret("password", env=self.password_env, file=self.password_file),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. said: the beginning of the body as one line for an error text, without
    what was sent as a secret. cut: the body was longer than the limit, and is not whole.
    """

    status: int
    body: bytes
    said: str
    cut: bool = False


def split_url(url: str) -> SplitResult:
    """The parts of a usable address; ConfigError otherwise, which does not repeat it."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise ConfigError(
            "url is not a usable address",
            remedy="Give for instance http://127.0.0.1:9090; write other letters as %XX.",
        )
    if "@" in parts.netloc:
        raise ConfigError(
            "url holds a user or a password",
            remedy="Give user, and password_env or password_file, instead.",
        )
    return parts


class Client:
    """Asks one server. One connection is kept open between requests; threads must not share it."""

    def __init__(self, options: HttpOptions, *, limit: int = _PIECE, url: str = "") -> None:
        parts = split_url(url or options.url)
        self._options, self._limit = options, limit
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._path, self._query = parts.path, parts.query
        # A path or a query may be a secret (the addresses of chat hooks are): errors say the rest.
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._context: ssl.SSLContext | None = None
        self._wire: DeadlineSocket | None = None
        self._free_at = -math.inf  # monotonic seconds

    def check(self) -> None:
        """ConfigError where the secrets or the certificates cannot be read."""
        self._options.authorization()
        if self._tls and self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._options.ca_file or None)
            except OSError as error:  # ssl.SSLError is one
                raise ConfigError(
                    f"cannot use ca_file {self._options.ca_file}: {error.strerror or error}",
                    remedy="Name a readable file of PEM certificates.",
                ) from error

    def request(
        self,
        path: str = "",
        *,
        method: str = "POST",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask `path` below the configured address, and wait for the whole answer.

        Raises ConnectionLost if there is none in time, if the server asked for a pause that is not
        over, or if the secrets cannot be read now.
        """
        pause = self._free_at - time.monotonic()
        if pause > 0:
            raise ConnectionLost(
                f"{self.name} requested a pause; {pause:.0f} s of it are left",
                remedy="Try again after it.",
            )
        granted = self.now(self._granted)
        target = (self._path.rstrip("/") + path if path else self._path) or "/"
        if self._query:
            target += f"?{self._query}"
        sent = {"User-Agent": "imdiffusion", **(headers or {})}
        if granted:
            sent["Authorization"] = granted
        deadline = time.monotonic() + self._options.timeout
        while True:
            reused = self._wire is not None
            try:
                return self._exchange(method, target, body, sent, deadline)
            except (http.client.HTTPException, OSError) as error:
                self.close()
                # A kept connection may have been closed by the far side since: not its absence.
                if reused and isinstance(error, ConnectionError):
                    continue
                raise ConnectionLost(
                    f"{self.name} did not answer: {_reason(error, self._options.timeout)}",
                    remedy="Look whether it runs, and whether url and timeout are right.",
                ) from error

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], deadline: float
    ) -> Reply:
        if self._wire is None:
            self._wire = DeadlineSocket.connect(self._host, self._port, self._context, deadline)
        self._wire.deadline = deadline
        # In between requests only the wire stays: a connection object is cheap and has no memory.
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.sock = self._wire
        connection.default_port = 443 if self._tls else 80  # for the header Host
        connection.request(method, target, body, headers)
        with connection.getresponse() as response:
            held, cut = _body(response, self._limit)
            if cut or response.will_close:
                self.close()
            if response.status in _BUSY or response.status >= 500:
                self._free_at = time.monotonic() + _pause(response.getheader("Retry-After"))
            said = _line(held, headers.get("Authorization", ""))
            return Reply(response.status, held, said, cut)

    def settle(
        self, reply: Reply, *, lasting: type[ConnectionLost | ConfigError] = ConnectionLost
    ) -> bool:
        """Whether what was sent is safe there; False if that is refused for good.

        Raises ConnectionLost where the server is busy or broken, and `lasting` where it refuses the
        address or the sender: until a person mends that, no message gets through.
        """
        if 200 <= reply.status < 300:
            return True
        if 400 <= reply.status < 500 and reply.status not in _BUSY | _SENDER:
            return False
        told = f"{self.name} answered {reply.status}" + (f": {reply.said}" if reply.said else "")
        if reply.status in _BUSY or reply.status >= 500:
            raise ConnectionLost(told, remedy="Try again later.")
        remedy = "Look at url, and at the token or the user; no redirect is followed."
        raise lasting(told, remedy=remedy)

    def _granted(self) -> str:
        self.check()
        return self._options.authorization()

    @staticmethod
    def now(read: Callable[[], str]) -> str:
        """What `read` gives. Its ConfigError is a ConnectionLost by now: it was right at `open`;
        a secret that is being exchanged may be there again a moment later.
        """
        try:
            return read()
        except ConfigError as error:
            raise ConnectionLost(error.what, remedy=error.remedy) from error

    def close(self) -> None:
        """Close the connection that is kept; the next request opens one."""
        if self._wire is not None:
            self._wire.hang_up()
            self._wire = None


def _body(response: http.client.HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes, and whether there were more."""
    held = bytearray()
    while piece := response.read1(_PIECE):
        held += piece
        if len(held) > limit:
            return bytes(held[:limit]), True
    if response.length:  # read1 does not mind a body that ends early
        raise http.client.IncompleteRead(b"", response.length)
    return bytes(held), False


def _line(body: bytes, granted: str) -> str:
    """The beginning of a body as one printable line; a server may repeat what it was sent."""
    text = body[:2000].decode("utf-8", "replace")
    if secret_part := granted.partition(" ")[2]:
        text = text.replace(secret_part, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else f"{line[:199]}…"


def _pause(text: str | None) -> float:
    """Seconds that a Retry-After header asks for: a number or a date; 0 for what is neither."""
    if not text:
        return 0.0
    try:
        wanted = float(text)
    except ValueError:
        try:
            wanted = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(wanted, _LONGEST_PAUSE) if wanted > 0 else 0.0


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no complete answer within {timeout:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); see ca_file"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"what came is no HTTP ({type(error).__name__})"
