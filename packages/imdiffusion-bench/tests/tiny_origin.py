"""A real server of files on loopback: it cuts, lies, ignores ranges, changes its files."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(range(256)) * 600  # 153,600 bytes


class Origin(ThreadingHTTPServer):
    """Serves `files`; what is wrong with it is set by the test.

    cuts: of each of the next answers, the bytes after which the connection is closed.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {"/file": BODY}
        self.etag: str | None = '"one"'
        self.ranges = True
        self.if_range = True
        self.length = True
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.cuts: list[int] = []
        self.stall = threading.Event()
        self.stalls = False
        self.asked: list[tuple[str, str | None]] = []  # path and Range of each request

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        origin, wanted = self.server, self.headers.get("Range")
        origin.asked.append((self.path, wanted))
        body = origin.files.get(self.path)
        if body is None or origin.status is not None:
            self.send_error(origin.status or 404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        stale = origin.if_range and self.headers.get("If-Range") not in (None, origin.etag)
        if not origin.ranges or stale:
            start = 0
        if start >= len(body) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if origin.length:
            self.send_header("Content-Length", str(len(body) - start))
        if origin.etag is not None:
            self.send_header("ETag", origin.etag)
        for name, value in origin.headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body[start:]
        if origin.cuts:
            sent = sent[: origin.cuts.pop(0)]
        self.wfile.write(sent)
        self.wfile.flush()
        if origin.stalls:
            origin.stall.wait(10)

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def serving() -> Iterator[Origin]:
    """An origin on loopback that answers until the block ends."""
    with Origin() as origin:
        thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield origin
        origin.stall.set()
        origin.shutdown()
        thread.join()
