"""What goes on beside the engine: fits in the background, and models that take over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.models.background_fits import Fitter
from imdiffusion.live.models.router import ModelRouter

log = logging.getLogger(__name__)

TICK = 0.25  # seconds between two looks whether all is to stop
MODELS_EVERY = 4  # of these looks, between two at models


class Maintenance:
    """A thread beside a running engine; `with` starts and ends it.

    ask: called at every look; it says whether the engine is to stop, which then `stop` is told.
    """

    def __init__(
        self,
        engine: Engine,
        router: ModelRouter,
        fitter: Fitter,
        *,
        ask: Callable[[], bool],
        stop: threading.Event,
    ) -> None:
        self._engine, self._router, self._fitter = engine, router, fitter
        self._ask, self._stop = ask, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="upkeep", daemon=True)

    def _look_after(self) -> None:
        looks = 0
        while not self._over.wait(TICK):
            looks += 1
            if self._ask():
                self._stop.set()
                return
            try:
                if looks % MODELS_EVERY:
                    continue
                self._fitter.tick(self._router.to_fit())
                for entity in self._router.follow(self._engine):
                    log.info("another model scores %s from now on", entity)
            except Exception:  # the active scorer continues; the next look tries again
                log.exception("models could not be looked after")

    def __enter__(self) -> Maintenance:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._fitter.close()
        self._router.close()
