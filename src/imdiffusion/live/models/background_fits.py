"""Fits models in the background, one at a time, and puts forward those that win.

A fit is the work of a child process in a folder of its own (`fit_job.py`, `fit_worker.py`). If the
process ends without a verdict, the fit is started again and goes on where it was; one that fails is
tried again, after a pause that grows.
What has won is noted and made live in the live state; the active scorer follows from that alone
(`router.py`).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from imdiffusion.errors import ImDiffusionError, ModelError
from imdiffusion.live.config.configuration import Configuration
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import Backoff
from imdiffusion.live.models.champion_challenger import Shape, shape_of
from imdiffusion.live.models.fit_job import (
    JOB,
    LOG,
    VERDICT,
    Job,
    Outcome,
    clear,
    read_job,
    read_outcome,
    write_facts,
)
from imdiffusion.live.models.pinned import CAME, Places
from imdiffusion.live.models.router import ModelRouter, cold_rate
from imdiffusion.live.scorers.active_scorer import ActiveScorer
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.workers import INTERRUPTED, WorkerEndedError, WorkerProcess

log = logging.getLogger(__name__)

GROWTH = 1.5  # while no model is live, one that lost is followed by the next at so many rows
PROGRAM = ("-m", "imdiffusion.live.models.fit_worker")
ENDING = 10.0  # seconds that a process has to save its state


class Fitter:
    """Looks after the models of all entities; `tick` now and then, from one thread."""

    def __init__(self, store: Store, places: Places, configuration: Configuration) -> None:
        self.store, self.places, self.configuration = store, places, configuration
        self._process: WorkerProcess | None = None
        self._entity = ""
        self._patience: dict[str, Backoff] = {}
        self._outcomes: dict[str, Outcome | None] = {}
        self._interrupted: set[str] = set()

    @property
    def fitting(self) -> str:
        """The entity that a model is being fitted of; "" = none."""
        return self._entity if self._process is not None else ""

    def tick(self, router: Mapping[str, ActiveScorer]) -> None:
        """Start a fit that is due, or see whether the one that runs is over."""
        if self._process is not None:
            try:
                answer = self._process.receive(0.0)
            except WorkerEndedError as error:
                answer = {"exit_code": error.code, "error": str(error)}
            if answer is None:
                return
            self._process.release()
            self._process.close(ENDING)
            self._process = None
            self._over(**answer)
        entity = self._next(router)
        if entity is not None:
            self._start(entity, router[entity])

    # -- when

    def _next(self, router: Mapping[str, ActiveScorer]) -> str | None:
        """The entity whose fit is due; of several the one that has waited longest."""
        if not self.configuration.fit.enabled:
            return None
        with Reader(self.store.path) as reader:
            said = reader.judgements()
        shapes = {entity: shape_of(entity, said) for entity in {one.entity for one in said}}
        due = [
            entity
            for entity in sorted(router)
            if self._due(entity, router[entity], shapes.get(entity, Shape()))
        ]

        def made(entity: str) -> int:
            outcome = self._outcomes.get(entity)
            return 0 if outcome is None else outcome.made

        return min(due, key=made, default=None)

    def _due(self, entity: str, active: ActiveScorer, shape: Shape) -> bool:
        fit, patience = self.configuration.fit, self._patience.get(entity)
        if active.alignment.period is None:
            return False
        if patience is not None and not patience.ready(time.monotonic()):
            return False
        if entity not in self._outcomes:
            self._look(entity)
        outcome = self._outcomes[entity]
        if entity in self._interrupted:
            return True
        if fit.train == "state" and shape.since is not None:
            if active.alignment.rows_since(shape.since) < fit.rows:
                return False  # too few of the new normal yet
            if outcome is not None and shape.said > outcome.made:
                return True
        if outcome is None:
            return fit.train != "state" or active.alignment.count >= fit.rows
        if not outcome.won and active.detector == self.configuration.stream.baseline:
            grown = active.alignment.count >= GROWTH * max(outcome.rows, fit.rows)
            if fit.train == "state" and grown and outcome.rows < fit.most_rows:
                return True
        return fit.refit > 0 and (time.time_ns() - outcome.made) / 1e9 >= fit.refit

    def _look(self, entity: str) -> None:
        """What came of the last fit of an entity, and whether one is under way: read once.

        One that ended unobserved is acted on now.
        """
        folder = self.places.fit(entity)
        try:
            outcome = read_outcome(folder)
        except ModelError as error:
            log.warning("%s: what came of the last fit is not known: %s", entity, error)
            (folder / VERDICT).unlink(missing_ok=True)
            outcome = None
        begun = (folder / JOB).exists()
        if outcome is None and not begun:
            outcome = self._came(entity)
        self._outcomes[entity] = outcome
        if not begun:
            return
        if outcome is None:
            self._interrupted.add(entity)
        else:
            self._act(entity, outcome)
            clear(folder)

    def _came(self, entity: str) -> Outcome | None:
        """The outcome of the fit that was made elsewhere, of a live model that came from there."""
        with Reader(self.store.path) as reader:
            live = next((one for one in reader.models(entity) if one.live), None)
            why = next((reason for _, reason in reader.promotions(entity)), "")
        if live is None or why != CAME:
            return None
        facts = (live.digest, live.detector, live.path, live.made)
        return Outcome(entity, *facts, rows=0, won=True, reason=CAME)

    # -- the process

    def _start(self, entity: str, active: ActiveScorer) -> None:
        folder = self.places.fit(entity)
        folder.mkdir(parents=True, exist_ok=True)
        job = self._job(entity, active)
        try:
            begun = read_job(folder) if (folder / JOB).exists() else None
        except ModelError:
            begun = None
        if begun != job:  # another one: nothing of it can be gone on with
            clear(folder)
            (folder / VERDICT).unlink(missing_ok=True)
            write_facts(folder / JOB, job)
        log.info("a model of %s is being fitted", entity)
        nice = self.configuration.fit.nice
        self._process = WorkerProcess(*PROGRAM, nice=nice, log=folder / LOG)
        self._process.send({"folder": str(folder)})
        self._entity = entity

    def _job(self, entity: str, active: ActiveScorer) -> Job:
        fit = self.configuration.fit
        with Reader(self.store.path) as reader:
            live = next((one for one in reader.models(entity) if one.live), None)
            shape = shape_of(entity, reader.judgements())
        speaks = live is not None and live.digest == active.model
        period = active.alignment.period or 1
        return Job(
            state=str(self.places.folder.absolute()),
            entity=entity,
            channels=active.channels,
            period=period,
            train=fit.train,
            details=self.configuration.state.details,
            rows=fit.rows,
            most_rows=fit.most_rows,
            holdout=fit.holdout,
            keywords=self.configuration.keywords,
            baseline=self.configuration.stream.baseline,
            alarm_rate=cold_rate(self.configuration, period),
            incumbent=live.path if live is not None and speaks else "",
            incumbent_detector=live.detector if live is not None and speaks else "",
            incumbent_digest=live.digest if live is not None and speaks else "",
            excluded=shape.excluded,
            since=shape.since,
        )

    def _over(self, exit_code: int, error: str) -> None:
        """The fit has ended: act on its verdict, or wait and try again."""
        entity, folder = self._entity, self.places.fit(self._entity)
        self._interrupted.discard(entity)
        try:
            outcome = read_outcome(folder) if exit_code == 0 else None
            if outcome is not None:
                self._act(entity, outcome)
                clear(folder)
                self._patience.pop(entity, None)
                self._outcomes[entity] = outcome
                return
        except ImDiffusionError as problem:
            log.error("the model of %s cannot be noted: %s", entity, problem)
        patience = self._patience.setdefault(entity, Backoff(np.random.default_rng(), most=3600.0))
        wait = patience.failed(time.monotonic())
        log.error(
            "no model of %s (exit %d), next try in %.0f s: %s", entity, exit_code, wait, error
        )
        self.store.count({("fits_failed", entity): 1})
        if exit_code > 0 and exit_code != INTERRUPTED:  # its rows or state may be the cause
            clear(folder)
        else:
            self._interrupted.add(entity)

    def _act(self, entity: str, outcome: Outcome) -> None:
        """Note the model; make it live if it has won."""
        now = time.time_ns()
        self.store.add_model(
            entity, outcome.digest, detector=outcome.detector, path=outcome.path, now=now
        )
        if outcome.won:
            self.store.promote(entity, outcome.digest, reason=outcome.reason, now=now)
        word = "won" if outcome.won else "lost"
        log.info("the model %s of %s has %s: %s", outcome.digest, entity, word, outcome.reason)
        self._prune(entity)

    def _prune(self, entity: str) -> None:
        """Leave the newest models on the disk, and the live one."""
        with Reader(self.store.path) as reader:
            models = reader.models(entity)
        newest = {one.digest for one in models[: self.configuration.fit.keep]}
        kept = newest | {one.digest for one in models if one.live}
        folder = self.places.models(entity)
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Interrupt a fit that is under way: it saves its state, and goes on at the next start."""
        if self._process is not None:
            self._process.interrupt()
            self._process.close(ENDING)
            self._process = None


# -- what goes on beside the engine: fits in the background, and models that take over

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
