"""An HTTP server of a test's own that answers whatever the test wants, on a real socket."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Answer:
    """pieces: sent one by one, without a length, for as long as they come and are read."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes] | None = None
    raw: bytes | None = None  # instead of HTTP


class OddServer:
    """`answer` is asked for each request; `asked` keeps them all."""

    def __init__(
        self, answer: Callable[[Asked], Answer], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        self._tls = tls
        self.asked: list[Asked] = []
        self.connections = 0
        self.over = threading.Event()  # set at the end: an answer that waits, waits for this

    def __enter__(self) -> Self:
        odd = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                odd.connections += 1
                super().setup()

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(length))
                odd.asked.append(asked)
                self.reply(odd.answer(asked))

            do_GET = do_POST

            def reply(self, answer: Answer) -> None:
                try:
                    if answer.raw is not None:
                        self.close_connection = True
                        self.wfile.write(answer.raw)
                        return
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    if answer.pieces is None:
                        self.send_header("Content-Length", str(len(answer.body)))
                        self.end_headers()
                        self.wfile.write(answer.body)
                        return
                    self.close_connection = True
                    self.end_headers()
                    for piece in answer.pieces:
                        if odd.over.is_set():
                            return
                        self.wfile.write(piece)
                except ConnectionError:  # whoever asked has had enough
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:  # a client that hangs up between requests
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
