"""A TCP connection, with or without TLS, that is given up at a deadline."""

from __future__ import annotations

import io
import math
import socket
import ssl
import time
from typing import Any, Self


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
