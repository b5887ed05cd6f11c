"""The active scorer of every entity: its live model if that is whole, else a baseline."""

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
    ModelError,
    UsageError,
)
from imdiffusion.live.config.configuration import Configuration
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.models.pinned import MigratedModels, ModelCache, PinnedModels, Places
from imdiffusion.live.rows.alignment import Alignment, rows_known
from imdiffusion.live.scorers.active_scorer import ActiveScorer, alignment_in
from imdiffusion.live.scorers.cold_start import SMOOTH, ColdStartScorer
from imdiffusion.live.scorers.fitted import EndingScorer, owner_of, resumed
from imdiffusion.live.store.inserts import SCORER, ModelVersion
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.retention import PeerStates
from imdiffusion.saved_state import State

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
    """Makes the active scorers, and gives the engine a new one when another model becomes live.

    `scorer_for` belongs to the engine's thread, `follow` to the one that looks after models.
    peers: the engine's, where other processes leave entities with their models.
    """

    def __init__(
        self,
        store: Store,
        places: Places,
        configuration: Configuration,
        *,
        peers: PeerStates | None = None,
    ) -> None:
        self.store, self.places, self.configuration = store, places, configuration
        self._active: dict[str, ActiveScorer] = {}
        self._refused: dict[str, set[str]] = {}
        self.models = ModelCache(self._detector, offline=configuration.stream.offline)
        self._reader = Reader(store.path)
        self._pinned = PinnedModels(store, places, configuration)
        baseline = configuration.stream.baseline
        self._migrated = (
            None if peers is None else MigratedModels(store, places, peers, baseline=baseline)
        )
        # The source of an entity, which the engine knows; it is made after this.
        self.source_of: Callable[[str], str] = lambda entity: ""
        self._lock = threading.Lock()

    # -- the engine asks

    def scorer_for(self, frame: Frame, state: State | None = None) -> ActiveScorer:
        """The active scorer of an entity from its first frame, and from the state that its scorer
        had last, if it had one. ModelError where it cannot go on from that.
        """
        entity = frame.entity or ""
        alignment = self._alignment(entity, frame, state)
        self._pinned.adopt(entity, self.source_of(entity), self._reader)
        if self._migrated is not None:
            self._migrated.adopt(entity, self._reader, state)
        model = self._live_model(entity)
        active = None if model is None else self._begun(alignment, *model, state)
        if active is None:  # no model, or one of other channels
            active = self._cold(alignment)
        active = resumed(active, state)
        with self._lock:
            self._active[entity] = active
        return active

    def _alignment(self, entity: str, frame: Frame, state: State | None) -> Alignment:
        """The rows that a state holds, whichever scorer it is of; none where there is no state, or
        one at another interval than is configured.
        """
        stream = self.configuration.stream
        configured = round(stream.interval * 1e9) or None
        saved = None if state is None else alignment_in(state.part(SCORER))
        channels, period = (frame.channels, configured) if saved is None else rows_known(saved)
        fresh = Alignment(
            entity, channels, period=configured or period, lateness=stream.lateness,
            fill=stream.fill, most=stream.most_channels,
        )  # fmt: skip
        if saved is None or period != fresh.period:
            return fresh
        return Alignment.from_state(saved, fresh)

    def _cold(self, alignment: Alignment) -> ActiveScorer:
        baseline = self.configuration.stream.baseline
        settings = self.configuration.settings
        facts = [baseline, settings.alarm_rate, settings.alarms_per_day]
        if self.configuration.stream.offline:
            facts.append("offline")
        model = hashlib.sha256("\x1f".join(map(str, facts)).encode()).hexdigest()[:16]

        def make(rows: Alignment, period: int) -> EndingScorer:
            rate = cold_rate(self.configuration, period)
            return ColdStartScorer(
                rows.channels, period=period, baseline=baseline, alarm_rate=rate,
                offline=self.configuration.stream.offline, entity=rows.entity,
            )  # fmt: skip

        return ActiveScorer(alignment, baseline, model, make)

    def _fitted(
        self,
        alignment: Alignment,
        version: ModelVersion,
        scorer: EndingScorer,
        read: int | None = None,
    ) -> ActiveScorer | None:
        if not set(scorer.channels) & set(alignment.channels):
            log.error("the live model of %s knows none of its channels", alignment.entity)
            self._refuse(alignment.entity, version.digest)
            return None
        return ActiveScorer(
            alignment, version.detector, version.digest, lambda *_: scorer, ready=scorer, read=read
        )

    def _begun(
        self,
        alignment: Alignment,
        version: ModelVersion,
        scorer: EndingScorer,
        state: State | None,
    ) -> ActiveScorer | None:
        """As `_fitted`; one that was not the active one before the start reads the rows so far."""
        own = state is None or owner_of(state)[1] == version.digest
        read = None if own else self._prime(alignment.entity, scorer)
        return self._fitted(alignment, version, scorer, read)

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
        if self._pinned.holds(folder):
            return self._pinned.detector(folder)
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
            new = self._fitted(active.alignment, *model, read=read)
            if new is None:
                continue
            with self._lock:
                self._active[entity] = new
            engine.succeed(entity, new)
            changed.append(entity)
        return changed

    def _prime(self, entity: str, scorer: EndingScorer) -> int | None:
        """Read the newest rows of the live state to a scorer; the time of the last, in ns."""
        rows = self._reader.details(entity, 0, 2**62, limit=PRIMED, channels=scorer.channels)
        if not len(rows.timestamps):
            return None
        seen = rows.cells[:, 0].astype(np.float64)
        stamps = rows.timestamps.astype("datetime64[ns]")
        frame = Frame(seen, ~np.isnan(seen), stamps, rows.channels, entity)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # said when the model was fitted
                scorer.push(frame)
        except DataError as error:  # it then begins without
            log.warning("the model of %s could not read the rows before: %s", entity, error)
            scorer.finish()
            return None
        return int(rows.timestamps[-1])

    # -- what is told of them

    def speaking(self) -> dict[str, ActiveScorer]:
        """The active of every entity, as of now."""
        with self._lock:
            return dict(self._active)

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
        self._pinned.prune(self._reader)
        self._reader.close()
