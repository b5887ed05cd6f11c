"""The active of every entity: the live model where there is one that is whole, else a baseline."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.durations import DAY_NS
from imdiffusion.errors import (
    DataError,
    DataWarning,
    ImDiffusionError,
    ModelError,
    UsageError,
)
from imdiffusion.live.config.configuration import Configuration
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.models.cache import ModelCache
from imdiffusion.live.models.migrated import MigratedModels
from imdiffusion.live.models.paths import Places
from imdiffusion.live.models.pinned import PinnedModels
from imdiffusion.live.rows.alignment import Alignment, facts_of
from imdiffusion.live.scorers.active_scorer import ActiveScorer, feed_in
from imdiffusion.live.scorers.cold_start import SMOOTH, ColdStartScorer
from imdiffusion.live.scorers.scored_row import EndingScorer
from imdiffusion.live.store.checkpoint import ModelVersion
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.takeover import Estate

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.live.scorers.fitted import EntityScorer

log = logging.getLogger(__name__)

PRIMED = 512  # rows that a model reads before it takes over


def cold_rate(configuration: Configuration, period: int) -> float:
    """The share of normal rows that the baseline may flag: of the setting, or of the budget.

    An event of the baseline spans about as many rows as its scores are joined over.
    """
    settings = configuration.settings
    if not settings.alarms_per_day:
        return settings.alarm_rate
    return min(0.5, max(1e-9, settings.alarms_per_day * SMOOTH * period / DAY_NS))


class ModelRouter:
    """Makes router for the engine, and hands it a new one when another model has become live.

    `scorer_for` is the engine's thread, `follow` that of the maintenance of models. estate: the
    engine's, where other processes leave entities with their models.
    """

    def __init__(
        self,
        store: Store,
        places: Places,
        configuration: Configuration,
        *,
        estate: Estate | None = None,
    ) -> None:
        self.store, self.places, self.configuration = store, places, configuration
        self.router: dict[str, ActiveScorer] = {}
        self._refused: dict[str, set[str]] = {}
        self.models = ModelCache(self._detector, offline=configuration.stream.offline)
        self._reader = Reader(store.path)
        self._given = PinnedModels(store, places, configuration)
        baseline = configuration.stream.baseline
        self._inherited = (
            None if estate is None else MigratedModels(store, places, estate, baseline=baseline)
        )
        # The source of an entity, which the engine knows; it is made after this.
        self.source_of: Callable[[str], str] = lambda entity: ""
        self._lock = threading.Lock()

    # -- the engine asks

    def scorer_for(self, frame: Frame) -> ActiveScorer:
        """The active of an entity from its first frame; what was saved says its channels."""
        entity = frame.entity or ""
        feed = self._feed(entity, frame)
        self._given.adopt(entity, self.source_of(entity), self._reader)
        if self._inherited is not None:
            self._inherited.adopt(entity, self._reader)
        model = self._live_model(entity)
        active = self._cold(feed) if model is None else self._begun(feed, *model)
        if active is None:  # a model of other channels
            active = self._cold(feed)
        with self._lock:
            self.router[entity] = active
        return active

    def _feed(self, entity: str, frame: Frame) -> Alignment:
        stream = self.configuration.stream
        given = round(stream.interval * 1e9) or None
        state = self.store.state(entity, "scorer")
        saved: bytes | None = None
        channels, period = frame.channels, given
        if state is not None:
            try:
                saved = feed_in(state.split(b"\n", 2)[2])
                channels, period = facts_of(saved)
            except (ImDiffusionError, IndexError) as error:
                log.warning("the rows of %s start over: %s", entity, error)
                saved = None
        if given is not None and period != given:
            saved, period = None, given
        feed = Alignment(
            entity, channels, period=period, lateness=stream.lateness, fill=stream.fill,
            most=stream.most_channels,
        )  # fmt: skip
        if saved is not None:
            feed.restore(saved)
        return feed

    def _cold(self, feed: Alignment) -> ActiveScorer:
        baseline = self.configuration.stream.baseline
        settings = self.configuration.settings
        facts = [baseline, settings.alarm_rate, settings.alarms_per_day]
        if self.configuration.stream.offline:
            facts.append("offline")
        model = hashlib.sha256("\x1f".join(map(str, facts)).encode()).hexdigest()[:16]

        def make(period: int) -> EndingScorer:
            rate = cold_rate(self.configuration, period)
            return ColdStartScorer(
                feed.channels, period=period, baseline=baseline, alarm_rate=rate,
                offline=self.configuration.stream.offline, entity=feed.entity,
            )  # fmt: skip

        return ActiveScorer(feed, baseline, model, make)

    def _fitted(
        self, feed: Alignment, version: ModelVersion, speaker: EndingScorer, read: int | None = None
    ) -> ActiveScorer | None:
        if not set(speaker.channels) & set(feed.channels):
            log.error("the live model of %s knows none of its channels", feed.entity)
            self._refuse(feed.entity, version.digest)
            return None
        return ActiveScorer(
            feed, version.detector, version.digest, lambda period: speaker, ready=speaker, read=read
        )

    def _begun(
        self, feed: Alignment, version: ModelVersion, speaker: EndingScorer
    ) -> ActiveScorer | None:
        """As `_fitted`; one that was not active before the start reads the rows that were."""
        state = self.store.state(feed.entity, "scorer")
        spoke = state is not None and state.split(b"\n", 2)[1:2] == [version.digest.encode()]
        read = None if state is None or spoke else self._prime(feed.entity, speaker)
        return self._fitted(feed, version, speaker, read)

    # -- models

    def _live_model(self, entity: str) -> tuple[ModelVersion, EndingScorer] | None:
        """The live model, loaded; a torn one is refused, and the one before it becomes live."""
        refused = self._refused.setdefault(entity, set())
        while True:
            live = next((one for one in self._reader.models(entity) if one.live), None)
            if live is None or live.digest in refused:
                return None
            try:
                return live, self._scorer(live)
            except ModelError as error:
                log.error("the model %s of %s is refused: %s", live.digest, entity, error)
                self._refuse(entity, live.digest)
            try:
                self.store.roll_back(entity, reason="the model is torn", now=time.time_ns())
            except UsageError:  # there was none before it: the baseline is active
                return None

    def _refuse(self, entity: str, digest: str) -> None:
        """Not to be tried again before the next start."""
        self._refused.setdefault(entity, set()).add(digest)
        self.store.count({("models_refused", entity): 1})

    def _detector(self, path: str) -> ImDiffusion:
        """What is in a model folder, by the path that the live state notes. ModelError: torn."""
        from imdiffusion import ImDiffusion

        folder = self.places.model(path)
        if self._given.holds(folder):
            return self._given.detector(folder)
        return ImDiffusion.load(folder, device=str(self.configuration.keywords["device"]))

    def _scorer(self, version: ModelVersion) -> EntityScorer:
        section = self.configuration.model_for(version.entity, self.source_of(version.entity))
        likely = [version.entity, *([section.of] if section is not None else [])]
        return self.models.scorer(version, likely)

    def follow(self, engine: Engine) -> list[str]:
        """Let the engine hear of live models that are not active yet; the entities."""
        live = {one.entity: one for one in self._reader.models() if one.live}
        changed = []
        for entity, active in self.speaking().items():
            version = live.get(entity)
            if version is None or version.digest in {active.model, *self._refused.get(entity, ())}:
                continue
            model = self._live_model(entity)
            if model is None or model[0].digest == active.model:
                continue
            read = self._prime(entity, model[1])
            new = self._fitted(active.feed, *model, read=read)
            if new is None:
                continue
            with self._lock:
                self.router[entity] = new
            engine.succeed(entity, new)
            changed.append(entity)
        return changed

    def _prime(self, entity: str, speaker: EndingScorer) -> int | None:
        """Read the newest rows of the live state to a scorer; the time of the last, in ns."""
        rows = self._reader.details(entity, 0, 2**62, limit=PRIMED, channels=speaker.channels)
        if not len(rows.timestamps):
            return None
        seen = rows.cells[:, 0].astype(np.float64)
        stamps = rows.timestamps.astype("datetime64[ns]")
        frame = Frame(seen, ~np.isnan(seen), stamps, rows.channels, entity)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # said when the model was fitted
                speaker.push(frame)
        except DataError as error:  # it then begins without
            log.warning("the model of %s could not read the rows before: %s", entity, error)
            speaker.finish()
            return None
        return int(rows.timestamps[-1])

    # -- what is told of them

    def speaking(self) -> dict[str, ActiveScorer]:
        """The active of every entity, as of now."""
        with self._lock:
            return dict(self.router)

    def to_fit(self) -> dict[str, ActiveScorer]:
        """The router of entities that models are fitted of: not those with a named model alone."""
        found = {}
        for entity, active in self.speaking().items():
            section = self.configuration.model_for(entity, self.source_of(entity))
            if section is None or section.refit:
                found[entity] = active
        return found

    def close(self) -> None:
        """Take away what no model is any more, and let go of the live state."""
        self._given.prune(self._reader)
        self._reader.close()
