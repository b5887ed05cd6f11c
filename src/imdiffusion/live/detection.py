"""Live detection as one thing that runs: engine, router, fits and service, over every reload.

A reload builds the new parts while the old ones go on. Only when all of it is right does the engine
close, which scores, writes and sends what was read, and the next one goes on from there. Sources
whose own part of the configuration stayed are not even closed. What is wrong is said, and the last
good configuration goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from imdiffusion.errors import ConfigError, ImDiffusionError, OutputError
from imdiffusion.live.config.configuration import Configuration
from imdiffusion.live.config.errors import ProblemsError
from imdiffusion.live.connection.protocols import Sink, Source
from imdiffusion.live.engine.engine import Engine, run
from imdiffusion.live.models.background_fits import Fitter, Maintenance
from imdiffusion.live.models.pinned import Places
from imdiffusion.live.models.router import ModelRouter
from imdiffusion.live.sources.persistent import Kept
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.retention import PeerStates

log = logging.getLogger(__name__)

# Serves a detection as a configuration says, within a `with`.
Service = Callable[["Detection", Configuration], AbstractContextManager[Any]]
Reread = Callable[[], Configuration]


class Detection:
    """Watches what a configuration says, in one state folder, until it is stopped.

    sources and sinks: by id, beside those of the configuration; they last over every reload.
    service: what serves it, if anything does. OutputError: the folder cannot be used, or another
    process uses it.
    """

    def __init__(
        self,
        configuration: Configuration,
        places: Places,
        *,
        sources: Mapping[str, Source] | None = None,
        sinks: Mapping[str, Sink] | None = None,
        service: Service | None = None,
    ) -> None:
        self.configuration, self.places, self.service = configuration, places, service
        try:
            places.make()
        except OSError as error:
            raise OutputError(
                f"the state folder {places.folder} cannot be used: {error.strerror}",
                remedy="Name another one.",
            ) from error
        self.store = Store(places.live, retention=configuration.state)
        self._lasting = {name: Kept(one, lasting=True) for name, one in (sources or {}).items()}
        self._lasting_sinks = dict(sinks or {})
        self._kept: dict[str, Kept] = {}
        self._engine: Engine | None = None
        self._next: Configuration | None = None

    def health(self) -> dict[str, Any]:
        """As `Engine.health`, of the engine that runs; empty between two."""
        return {} if self._engine is None else self._engine.health()

    def run(
        self, stop: threading.Event, *, reload: threading.Event, reread: Reread | None = None
    ) -> None:
        """Run until `stop` is set or every source has ended; `reload` asks for `reread`.

        Raises ConfigError where the first configuration cannot be begun with, OutputError where the
        last checkpoint could not be written.
        """
        serving: AbstractContextManager[Any] | None = None
        try:
            serving = self._serve(self.configuration)
            while True:
                self._round(stop, reload, reread)
                new, self._next = self._next, None
                if stop.is_set() or new is None:
                    return
                serving = self._take_over(new, serving)
        finally:
            if serving is not None:
                serving.__exit__(None, None, None)
            for kept in (*self._kept.values(), *self._lasting.values()):
                kept.let_go()
            self.store.close()

    def _serve(self, configuration: Configuration) -> AbstractContextManager[Any] | None:
        if self.service is None:
            return None
        serving = self.service(self, configuration)
        serving.__enter__()
        return serving

    # -- one engine

    def _round(self, stop: threading.Event, reload: threading.Event, reread: Reread | None) -> None:
        """One engine, from opening to closing, under the configuration that holds."""
        configuration, over = self.configuration, threading.Event()

        def ask() -> bool:
            if reload.is_set() and reread is not None:
                reload.clear()
                self._next = self._checked(reread)
            return stop.is_set() or self._next is not None

        peers = self._peers(configuration)
        router = ModelRouter(self.store, self.places, configuration, peers=peers)
        engine = Engine(
            self.store,
            sources=self._sources(configuration),
            sinks=self._sinks(configuration),
            scorer_for=router.scorer_for,
            rules=configuration.alerts,
            options=configuration.stream,
            peers=peers,
        )
        engine.open()
        router.source_of = engine.source_of
        self._engine = engine
        fitter = Fitter(self.store, self.places, configuration)
        with Maintenance(engine, router, fitter, ask=ask, stop=over):
            try:
                run(engine, over)
            except OutputError as error:
                if self._next is None:
                    raise
                log.error("reload: what was not written comes again: %s", error)

    def _peers(self, configuration: Configuration) -> PeerStates | None:
        """What the other processes of the group leave, if they say where."""
        peers = configuration.state.peers
        return PeerStates(Path(peers), own=self.places.folder) if peers else None

    def _sources(self, configuration: Configuration) -> dict[str, Source]:
        """By id; those that are there already go on, those that are no more are let go."""
        wanted = {one.key: one for one in configuration.sources}
        kept = {key: self._kept.get(key) or Kept(one.source()) for key, one in wanted.items()}
        for key, source in self._kept.items():
            if key not in kept:
                source.let_go()
        self._kept = kept
        return {**{one.id: kept[key] for key, one in wanted.items()}, **self._lasting}

    def _sinks(self, configuration: Configuration) -> dict[str, Sink]:
        return {**{one.id: one.sink() for one in configuration.sinks}, **self._lasting_sinks}

    # -- reload

    def _checked(self, reread: Reread) -> Configuration | None:
        """The new configuration if it can take over; else None, and why is said."""
        try:
            new = reread()
            if new.state.path != self.configuration.state.path:
                raise ConfigError(
                    "[state] path cannot change while it runs",
                    remedy="Stop it, and start it again.",
                )
        except ProblemsError as error:
            for problem in error.problems:
                log.error("reload: %s", problem)
            log.error("reload: refused, the last valid configuration stays in use")
            return None
        except ImDiffusionError as error:
            log.error("reload: refused, the last valid configuration stays in use: %s", error)
            return None
        return new

    def _take_over(
        self, new: Configuration, serving: AbstractContextManager[Any] | None
    ) -> AbstractContextManager[Any] | None:
        """Let a new configuration hold, now that no engine runs; else the last one goes on."""
        old = self.configuration
        try:
            for one in new.sinks:
                if one not in old.sinks:
                    _try(one.sink())
            if serving is not None and new.serve != old.serve:
                serving.__exit__(None, None, None)
                serving = None
                try:
                    serving = self._serve(new)
                except ImDiffusionError:
                    serving = self._serve(old)
                    raise
        except ImDiffusionError as error:
            log.error("reload: refused, the last valid configuration stays in use: %s", error)
            return serving
        self.store.retain(new.state)
        self.configuration = new
        log.warning("reload: the new configuration holds")
        return serving


def _try(sink: Sink) -> None:
    """Raise ConfigError for a sink that cannot be opened; one that is away may come back."""
    try:
        sink.open()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001  the engine tries again, with patience
        log.warning("reload: a new sink cannot be reached: %s", error)
    finally:
        sink.close()
