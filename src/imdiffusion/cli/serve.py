"""`imdiffusion serve`: detection of many entities, with API, page and metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdiffusion.cli.options import AsJson, flag
from imdiffusion.cli.terminal import Terminal
from imdiffusion.cli.watch import stopped

if TYPE_CHECKING:
    from imdiffusion.live.config.configuration import Configuration
    from imdiffusion.live.config.schema import ServeSection
    from imdiffusion.live.detection import Detection
    from imdiffusion.live.models.pinned import Places
    from imdiffusion.live.sinks.metrics import MetricsSink
    from imdiffusion.live.sources.push import PushedSource

EXAMPLES = """imdiffusion serve --config imdiffusion.toml --dry-run

imdiffusion serve --config imdiffusion.toml"""

PUSHED, SCRAPED = "http", "metrics_page"  # ids of what the service itself brings


def serve(
    ctx: typer.Context,
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="The configuration.", show_default=False)
    ],
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="of the file")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port; 0 = any.", show_default="of the file"),
    ] = None,
    insecure: Annotated[
        bool, flag("--insecure", help="Listen beyond this host without a token.")
    ] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", help="Report what would happen; write nothing.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How long --dry-run reads each source.")
    ] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Watch what a configuration says and serve it. SIGHUP reloads, SIGTERM ends gracefully."""
    from imdiffusion.live.config.parser import read_configuration
    from imdiffusion.live.models.pinned import Places, state_folder

    terminal: Terminal = ctx.obj

    def reread() -> Configuration:
        made = read_configuration(config)
        own = replace(
            made.serve,
            host=made.serve.host if host is None else host,
            port=made.serve.port if port is None else port,
            insecure=made.serve.insecure or insecure,
        )
        return replace(made, serve=own)

    configuration = reread()
    folder = Path(configuration.state.path) if configuration.state.path else state_folder("serve")
    places = Places(folder)
    if dry_run:
        _rehearse(terminal, configuration, places, seconds, as_json=as_json)
        return
    _serve(terminal, configuration, places, reread)


def _serve(
    terminal: Terminal,
    configuration: Configuration,
    places: Places,
    reread: Callable[[], Configuration],
) -> None:
    from imdiffusion.live.detection import Detection
    from imdiffusion.live.sinks.metrics import MetricsSink
    from imdiffusion.live.sources.push import PushedSource

    pushed, scraped = PushedSource(), MetricsSink()

    @contextmanager
    def service(detection: Detection, configuration: Configuration) -> Iterator[None]:
        with _service(terminal, detection, configuration, pushed, scraped):
            yield

    detection = Detection(
        configuration,
        places,
        sources={PUSHED: pushed},
        sinks={SCRAPED: scraped},
        service=service,
    )
    stop, reload = threading.Event(), threading.Event()
    with stopped(stop, reload):
        detection.run(stop, reload=reload, reread=reread)
    terminal.notice("Ended: everything that was read is scored, written and sent.")


@contextmanager
def _service(
    terminal: Terminal,
    detection: Detection,
    configuration: Configuration,
    pushed: PushedSource,
    scraped: MetricsSink,
) -> Iterator[None]:
    """The application on its socket."""
    from imdiffusion.live.service.app import make_app
    from imdiffusion.live.service.server import ServiceThread

    given = configuration.serve
    app = make_app(
        detection.store,
        ingest=pushed.push,
        metrics=scraped,
        health=detection.health,
        access=given,
    )
    serving = ServiceThread(
        app, port=given.port, certificate=given.tls_certificate, key=given.tls_key
    )
    with serving:
        terminal.notice(f"Serving on {serving.address}; kept in {detection.places.folder}.")
        yield


def _rehearse(
    terminal: Terminal,
    configuration: Configuration,
    places: Places,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    """Say what was found; exit code 3 if a source or a sink is away, or a model does not fit.

    ConfigError where the service would refuse to open.
    """
    from imdiffusion.live.dry_run import rehearse

    check_service(configuration.serve)
    found = rehearse(configuration, places, seconds=seconds)
    if as_json:
        terminal.emit_json([asdict(one) for one in found])
    else:
        rows = []
        for one in found:
            word = "fits" if one.kind == "model" else "reached"
            reached = word if one.reached else f"NOT {word}"
            rows.append((one.kind, one.id, one.type, reached, str(one.rows or ""), one.words))
        terminal.emit_table(("what", "id", "type", "", "rows", "found"), rows)
    away = [one.id for one in found if not one.reached]
    if away:
        terminal.notice(f"Nothing was written. Not as it should be: {', '.join(away)}.")
        raise typer.Exit(3)
    terminal.notice("Nothing was written. Everything was reached.")


def check_service(given: ServeSection) -> None:
    """ConfigError for tokens or files with which the service would not open."""
    from imdiffusion.live.service.server import check_tls

    given.check()
    check_tls(given.tls_certificate, given.tls_key)
