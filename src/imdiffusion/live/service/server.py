"""The application on a socket, in a thread of its own: uvicorn, imported here alone.

Certificate and key are looked at before anything listens.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from imdiffusion.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from imdiffusion.live.service.web import FastAPI


def check_tls(certificate: str, key: str) -> bool:
    """Whether TLS is asked for. ConfigError: the files are not there, or do not belong together."""
    if not certificate and not key:
        return False
    if not certificate or not key:
        raise ConfigError(
            "TLS needs a certificate and its key", remedy="Give both files, or neither."
        )
    for what, name in (("certificate", certificate), ("key", key)):
        if not Path(name).is_file():
            raise ConfigError(
                f"there is no file {name}, which should hold the {what}",
                remedy="Name a PEM file.",
            )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the certificate {certificate} and the key {key} cannot be used together",
            remedy="Give PEM files that belong together, the key without a password.",
        ) from error
    return True


try:
    import uvicorn
except ImportError as error:
    raise MissingExtraError("uvicorn", extra="serve") from error

log = logging.getLogger(__name__)

GRACE = 3  # seconds that answers may take when the service ends


class ServiceThread:
    """`with ServiceThread(app, port=8080) as serving: ...`; `serving.address` says where.

    Listens on the host of the application's `access`. port: 0 = any that is free. certificate and
    key: PEM files; with them it uses TLS (1.2 or newer) and nothing else.

    ConfigError: the address cannot be had, or the certificate cannot be read.
    """

    def __init__(
        self, app: FastAPI, *, port: int = 0, certificate: str = "", key: str = ""
    ) -> None:
        self._app, self._host = app, app.state.access.host
        self._tls = check_tls(certificate, key)
        self._socket = _listen(self._host, port)
        bound, number = self._socket.getsockname()[:2]
        shown = f"[{bound}]" if ":" in bound else bound
        self.address = f"{'https' if self._tls else 'http'}://{shown}:{number}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # it would write down what people searched for
            server_header=False,
            proxy_headers=False,  # a caller's word on who he is counts nothing
            ws="none",
            http="h11",
            loop="asyncio",
            lifespan="on",
            limit_concurrency=app.state.context.limits.connections,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=32 * 1024,
            ssl_certfile=certificate or None,
            ssl_keyfile=key or None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)
        self._failed: BaseException | None = None

    @property
    def failed(self) -> BaseException | None:
        """Why it ended by itself; None while it serves."""
        return self._failed

    def start(self) -> None:
        """Serve; returns when it answers."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        if not self._server.started:
            raise ConfigError(
                f"the service cannot start: {self._failed}", remedy="See the log."
            ) from self._failed
        log.info("serving on %s", self.address)

    def stop(self) -> None:
        """Answer what was asked, then end. May be called twice."""
        self._app.state.context.closing = True
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:  # noqa: BLE001  told by `start` and `failed`
            self._failed = error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=256)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            remedy="Choose another port, or 0 for any that is free.",
        ) from error
