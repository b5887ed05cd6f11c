"""The voice of every entity: the live model where there is one that is whole, else a baseline."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import warnings

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.errors import (
    DataError,
    DataWarning,
    ImDiffusionError,
    ModelError,
    UsageError,
)
from imdiffusion.live.configuration import Configuration
from imdiffusion.live.feed import Feed, facts_of
from imdiffusion.live.models import Models
from imdiffusion.live.places import Places
from imdiffusion.live.voice import Voice, feed_in
from imdiffusion.stream.checkpoint import ModelVersion
from imdiffusion.stream.cold import SMOOTH, ColdScorer
from imdiffusion.stream.engine import Engine
from imdiffusion.stream.ordered import EndingScorer
from imdiffusion.stream.queries import Reader
from imdiffusion.stream.store import Store

log = logging.getLogger(__name__)

DAY_NS = 86_400 * 1_000_000_000
PRIMED = 512  # rows that a model reads before it takes over


def cold_rate(configuration: Configuration, period: int) -> float:
    """The share of normal rows that the baseline may flag: of the setting, or of the budget.

    An event of the baseline spans about as many rows as its scores are joined over.
    """
    settings = configuration.settings
    if not settings.alarms_per_day:
        return settings.alarm_rate
    return min(0.5, max(1e-9, settings.alarms_per_day * SMOOTH * period / DAY_NS))


class Voices:
    """Makes voices for the engine, and hands it a new one when another model has become live.

    `scorer_for` is the engine's thread, `follow` that of whoever looks after models.
    """

    def __init__(self, store: Store, places: Places, configuration: Configuration) -> None:
        self.store, self.places, self.configuration = store, places, configuration
        self.voices: dict[str, Voice] = {}
        self._told: dict[str, dict[str, int]] = {}
        self._refused: dict[str, set[str]] = {}
        self.models = Models(
            places,
            device=str(configuration.keywords["device"]),
            hindsight=configuration.stream.hindsight,
        )
        self._reader = Reader(store.path)
        self._lock = threading.Lock()

    # -- the engine asks

    def scorer_for(self, frame: Frame) -> Voice:
        """The voice of an entity from its first frame; what was saved says its channels."""
        entity = frame.entity or ""
        feed = self._feed(entity, frame)
        model = self._live_model(entity)
        voice = self._cold(feed) if model is None else self._fitted(feed, *model)
        if voice is None:  # a model of other channels
            voice = self._cold(feed)
        with self._lock:
            self.voices[entity] = voice
            self._told[entity] = dict(feed.counts)
        return voice

    def _feed(self, entity: str, frame: Frame) -> Feed:
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
                log.warning("the rows of %s are begun afresh: %s", entity, error)
                saved = None
        if given is not None and period != given:
            saved, period = None, given
        feed = Feed(entity, channels, period=period, lateness=stream.lateness, fill=stream.fill)
        if saved is not None:
            feed.restore(saved)
        return feed

    def _cold(self, feed: Feed) -> Voice:
        baseline = self.configuration.stream.baseline
        settings = self.configuration.settings
        facts = (baseline, settings.alarm_rate, settings.alarms_per_day, *feed.channels)
        model = hashlib.sha256("\x1f".join(map(str, facts)).encode()).hexdigest()[:16]

        def make(period: int) -> EndingScorer:
            rate = cold_rate(self.configuration, period)
            return ColdScorer(feed.channels, period=period, baseline=baseline, alarm_rate=rate)

        return Voice(feed, baseline, model, make)

    def _fitted(
        self, feed: Feed, version: ModelVersion, speaker: EndingScorer, read: int | None = None
    ) -> Voice | None:
        if speaker.channels != feed.channels:
            log.error("the live model of %s has other channels than its rows", feed.entity)
            self._refuse(feed.entity, version.digest)
            return None
        return Voice(
            feed, version.detector, version.digest, lambda period: speaker, ready=speaker, read=read
        )

    # -- models

    def _live_model(self, entity: str) -> tuple[ModelVersion, EndingScorer] | None:
        """The live model, loaded; a torn one is refused, and the one before it becomes live."""
        refused = self._refused.setdefault(entity, set())
        while True:
            live = next((one for one in self._reader.models(entity) if one.live), None)
            if live is None or live.digest in refused:
                return None
            try:
                return live, self.models.scorer(live)
            except ModelError as error:
                log.error("the model %s of %s is refused: %s", live.digest, entity, error)
                self._refuse(entity, live.digest)
            try:
                self.store.roll_back(entity, reason="the model is torn", now=time.time_ns())
            except UsageError:  # there was none before it: the baseline speaks
                return None

    def _refuse(self, entity: str, digest: str) -> None:
        """Not to be tried again before the next start."""
        self._refused.setdefault(entity, set()).add(digest)
        self.store.count({("models_refused", entity): 1})

    def follow(self, engine: Engine) -> list[str]:
        """Let the engine hear of live models that do not speak yet; the entities."""
        live = {one.entity: one for one in self._reader.models() if one.live}
        changed = []
        for entity, voice in self.speaking().items():
            version = live.get(entity)
            if version is None or version.digest in {voice.model, *self._refused.get(entity, ())}:
                continue
            model = self._live_model(entity)
            if model is None or model[0].digest == voice.model:
                continue
            read = self._prime(entity, model[1])
            new = self._fitted(voice.feed, *model, read=read)
            if new is None:
                continue
            with self._lock:
                self.voices[entity] = new
            engine.succeed(entity, new)
            changed.append(entity)
        return changed

    def _prime(self, entity: str, speaker: EndingScorer) -> int | None:
        """Read the newest rows of the live state to a scorer; the time of the last, in ns."""
        rows = self._reader.details(entity, 0, 2**62, limit=PRIMED)
        if not len(rows.timestamps):
            return None
        seen = rows.cells[:, 0].astype(np.float64)
        stamps = rows.timestamps.astype("datetime64[ns]")
        frame = Frame(seen, ~np.isnan(seen), stamps, rows.channels, entity)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # said when the model was fitted
                speaker.push(frame.select(speaker.channels))
        except DataError as error:  # it then begins without
            log.warning("the model of %s could not read the rows before: %s", entity, error)
            speaker.finish()
            return None
        return int(rows.timestamps[-1])

    # -- what is told of them

    def speaking(self) -> dict[str, Voice]:
        """The voice of every entity, as of now."""
        with self._lock:
            return dict(self.voices)

    def count_passed_over(self) -> None:
        """Add to the counters what the feeds have passed over or put in since the last time."""
        added: dict[tuple[str, str], int] = {}
        for entity, voice in self.speaking().items():
            before, now = self._told.get(entity, {}), voice.feed.counts
            for reason, count in now.items():
                if (more := count - before.get(reason, 0)) > 0:
                    added[f"rows_{reason}", entity] = more
            self._told[entity] = dict(now)
        if added:
            self.store.count(added)

    def close(self) -> None:
        """Count once more, and let go of the live state."""
        self.count_passed_over()
        self._reader.close()
