"""The contract of sources and sinks, held against a far side that a rig stands up.

    check_source("files")                     # against the built-in rig
    check_source("kafka", rig)                # against a far side of one's own
    check_sink("sqlite")

Without a rig, a member is held to what can be seen without opening it: its options and methods.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.options import KINDS, load_sink, load_source, options_of
from imdiffusion.live.connection.protocols import Batch, Sink, Source
from imdiffusion.live.connection.record_json import key_of
from imdiffusion.records import EventRecord, Record, ScoreRecord
from imdiffusion.testing.rigs import SINK_RIGS, SOURCE_RIGS, START, Cells, SinkRig, SourceRig

_PATIENCE = 60.0  # seconds until a source that says nothing is broken
_CONTEXT = ("__enter__", "__exit__")
_SCALARS = ("str", "int", "float", "bool", "Literal", "Optional", "None")


def check_source(name: str, rig: SourceRig | None = None) -> None:
    """Check a source; AssertionError says what is broken. Without a rig, a built-in one if any."""
    _check_face("sources", name, ("open", "read", "commit", "close", *_CONTEXT))
    if rig is not None:
        _check_source(name, rig)
    elif name in SOURCE_RIGS:
        with SOURCE_RIGS[name]() as own:
            _check_source(name, own)


def check_sink(name: str, rig: SinkRig | None = None) -> None:
    """Check a sink; AssertionError says what is broken. Without a rig, a built-in one if any."""
    _check_face("sinks", name, ("open", "send", "flush", "close", *_CONTEXT))
    if rig is not None:
        _check_sink(name, rig)
    elif name in SINK_RIGS:
        with SINK_RIGS[name]() as own:
            _check_sink(name, own)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _check_face(table: str, name: str, methods: Sequence[str]) -> None:
    """Options are keywords of plain types, a wrong one is met with the nearest, methods exist."""
    at = f"{table[:-1]} {name!r}"
    options = options_of(table, name)
    for key, (hint, _) in options.items():
        shown = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        _require(any(kind in shown for kind in _SCALARS), f"{at}: option {key!r} is a {shown}")
    load: Callable[[str, Mapping[str, object]], object]
    load = load_source if table == "sources" else load_sink
    wrong = f"{next(iter(options), 'option')}x"
    try:
        load(name, {wrong: 1})
    except ConfigError as error:
        _require(wrong in str(error) and bool(error.remedy), f"{at} does not name {wrong!r}")
    else:
        raise AssertionError(f"{at} takes an option {wrong!r} that it does not have")
    for method in methods:
        _require(callable(getattr(registry.load(table, name), method, None)), f"{at}: no {method}")


def _check_source(name: str, rig: SourceRig) -> None:
    at = f"source {name!r}"
    early, late = _values(rig.times[:3]), _values(rig.times[3:6])
    with load_source(name, rig.options) as source:
        source.open(None)
        if rig.feed is None:
            _told(_until(source, lambda found: len(found) >= 2, at), at)
            return
        rig.feed(early)
        before = _until(source, lambda found: _told(found, at).keys() >= early.keys(), at)
        _require(_told(before, at) == early, f"{at} tells other values than it was given")
        source.commit(before[-1].offset)
        if rig.spoil is not None:
            rig.spoil()
        rig.feed(late)
        spoilt = rig.spoil is not None

        def enough(found: list[Batch]) -> bool:
            told = _told(found, at).keys() >= late.keys()
            return told and (not spoilt or any(batch.rejected for batch in found))

        after = _until(source, enough, f"{at}, spoilt" if spoilt else at)
        _require(_told(after, at) == late, f"{at} tells other values than it was given")
        more = source.read(0.0)  # a batch without rows moves the offset alone
        _require(more is None or not more.frames, f"{at} tells more than it was given")
    source.close()  # for the second time: nothing happens
    if not rig.replays:
        return
    with load_source(name, rig.options) as source:
        source.open(before[-1].offset)
        again = _until(source, enough, f"{at}, from an offset")
        found = _told(again, at)
        _require(found.items() >= late.items(), f"{at} leaves rows after its offset out")
        _require(found.items() <= (early | late).items(), f"{at} invents rows after a restart")


def _values(times: Sequence[int]) -> Cells:
    return {
        (entity, time, channel): float(index + scale)
        for entity, scale in (("one", 0.5), ("two", 100.0))
        for index, time in enumerate(times)
        for channel in ("cpu", "memory")
    }


def _until(source: Source, enough: Callable[[list[Batch]], bool], at: str) -> list[Batch]:
    batches: list[Batch] = []
    end = time.monotonic() + _PATIENCE
    while not enough(batches):
        _require(time.monotonic() < end, f"{at} does not tell all that it was given")
        batch = source.read(1.0)
        if batch is not None:
            _require(isinstance(batch.offset, str), f"{at} has an offset that is no text")
            batches.append(batch)
    return batches


def _told(batches: Sequence[Batch], at: str) -> Cells:
    """What frames say, each held to what a live frame has to be."""
    found: Cells = {}
    for frame in (frame for batch in batches for frame in batch.frames):
        _require(bool(frame.entity), f"{at} has a frame without an entity")
        _require(frame.timestamps is not None, f"{at} has a frame without timestamps")
        instants = [] if frame.timestamps is None else frame.timestamps.astype("int64").tolist()
        _require(instants == sorted(set(instants)), f"{at} has times out of order in a frame")
        for index, instant in enumerate(instants):
            for k, channel in enumerate(frame.channels):
                value = float(frame.values[index, k])
                seen = bool(frame.observed[index, k])
                _require(seen == math.isfinite(value), f"{at}: `observed` contradicts the values")
                if seen:
                    found[frame.entity or "", instant, channel] = value
    return found


def _check_sink(name: str, rig: SinkRig) -> None:
    at = f"sink {name!r}"
    sink = load_sink(name, rig.options)
    _require(bool(sink.takes) and sink.takes <= set(KINDS), f"{at} takes {set(sink.takes)}")
    records = [one for one in _records() if one.to_dict()["kind"] in sink.takes]
    wanted = sorted(map(key_of, records), key=repr)

    def deliver(sink: Sink, what: str, *, doubles: bool = False) -> None:
        with sink:
            sink.open()
            attempt(sink, what, doubles=doubles)
        sink.close()  # for the second time: nothing happens

    def attempt(sink: Sink, what: str, *, doubles: bool) -> None:
        for _ in range(2):  # the same again is as if it had been sent once
            sink.send(records[:2])
            sink.send(records)
            sink.flush()
            if rig.shows is not None:
                rig.shows(records)
            if rig.received is None:
                continue
            got = sorted(rig.received(), key=repr)
            right = set(got) == set(wanted) if doubles else got == wanted
            _require(right, f"{at}{what}: {len(records)} records became {len(got)}: {got}")
        _require(sink.refused == 0, f"{at} refused {sink.refused} good records")

    deliver(sink, "")
    deliver(load_sink(name, rig.options), ", opened anew", doubles=not rig.remembers)


def _records() -> list[Record]:
    scores: list[Record] = [
        ScoreRecord("one", time, mode, value, "ready", "fast", "m1")
        for time, value in ((START, 0.5), (START + 10**9, 1.5), (START + 2 * 10**9, math.nan))
        for mode in ("online", "offline")
    ]
    events: list[Record] = [
        EventRecord(
            id="e1",
            entity="one",
            status="ongoing" if end is None else "resolved",
            update=update,
            start=START,
            end=end,
            peak=START,
            score=3.0,
            detector="fast",
            model="m1",
            channels=('a"b\n', "caf\u00e9"),
            shares=(0.75, 0.25),
            expected=(1.0, math.nan),
            seen=(9.0, 2.0),
        )
        for update, end in enumerate((None, START + 10**9))
    ]
    return scores + events
