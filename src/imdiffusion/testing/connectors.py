"""The contract of sources and sinks, held against a far side that a rig stands up.

    check_source("ticks", SourceRig({"path": "ticks.jsonl"}, feed))
    check_sink("spool", SinkRig({"path": "records.jsonl"}, received))

Without a rig, a member is held to what can be seen without opening it: its options and methods.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.options import KINDS, load_sink, load_source, options_of
from imdiffusion.live.connection.protocols import Batch, Source
from imdiffusion.live.connection.record_json import Key, key_in, key_of
from imdiffusion.records import EventRecord, Record, ScoreRecord
from imdiffusion.testing.contract import Expect, contract

Cells = dict[tuple[str, int, str], float]  # (entity, timestamp in ns, channel) -> value

START = 1_700_000_000 * 10**9
PATIENCE = 60.0  # seconds until a source that says nothing is broken


@dataclass(frozen=True, slots=True)
class SourceRig:
    """A far side for one source.

    options: that build it. feed: puts values on the far side, {(entity, timestamp in ns, channel):
    value}; None = it makes its own. spoil: puts something there that no source could use; None =
    there is nothing like that. replays: what lies after an offset comes again. times: ns at which
    `feed` may be given values, at least six.
    """

    options: Mapping[str, object]
    feed: Callable[[Cells], None] | None
    spoil: Callable[[], None] | None = None
    replays: bool = True
    times: tuple[int, ...] = tuple(START + i * 10**9 for i in range(6))


@dataclass(frozen=True, slots=True)
class SinkRig:
    """A far side for one sink.

    options: that build it. received: the keys (`keys_of`) of all that came, each as often as it
    came; None where the far side keeps no keys. shows: is given what was sent, and raises
    AssertionError unless the far side shows just that; None = nothing more is asked there.
    remembers: also over a restart nothing comes twice.
    """

    options: Mapping[str, object]
    received: Callable[[], list[Key]] | None
    remembers: bool = True
    shows: Callable[[Sequence[Record]], None] | None = None


def keys_of(lines: Iterable[str | bytes]) -> list[Key]:
    """The keys of records in JSON; AssertionError for what is no record, or no strict JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    keys = []
    for line in lines:
        key = key_in(json.loads(line, parse_constant=refuse))
        if key is None:
            raise AssertionError(f"{line!r} is not a record")
        keys.append(key)
    return keys


def check_source(name: str, rig: SourceRig | None = None) -> None:
    """All values that the far side has, however they are cut, once, and again from an offset.

    What cannot be used is rejected, and stops nothing.
    """
    registry.load("sources", name)
    with contract(f"source {name!r}", may_draw=True) as expect:
        _check_face(expect, "sources", name, load_source, ("open", "read", "commit", "close"))
        if rig is None:
            return
        if rig.feed is not None:
            _check_source(expect, name, rig, rig.feed)
            return
        with load_source(name, rig.options) as source:
            source.open(None)
            _read(expect, source, "two batches of its own", lambda found: len(found) >= 2)


def check_sink(name: str, rig: SinkRig | None = None) -> None:
    """All records, however they are cut, once although they are sent again.

    Sent again after a restart they may come twice, unless the rig says that they do not.
    """
    registry.load("sinks", name)
    with contract(f"sink {name!r}", may_draw=True) as expect:
        _check_face(expect, "sinks", name, load_sink, ("open", "send", "flush", "close"))
        if rig is not None:
            _check_sink(expect, name, rig)


def _check_face(
    expect: Expect,
    table: str,
    name: str,
    load: Callable[[str, Mapping[str, object]], object],
    methods: Sequence[str],
) -> None:
    """Options are keywords of plain types, a wrong one is met with the nearest, methods exist."""
    try:
        options = options_of(table, name)
    except TypeError as error:
        options = {}
        expect(False, "options that are scalars, texts, choices or lists of them", str(error))
    for method in (*methods, "__enter__", "__exit__"):
        found = getattr(registry.load(table, name), method, None)
        expect(callable(found), f"a method {method}", found)
    wrong, met = "x".join(["", *options, ""]), "no error"
    try:
        load(name, {wrong: 1})
    except ConfigError as error:
        met = str(error)
    expect(wrong in met, f"a ConfigError that names the unknown option {wrong!r}", met)


def _check_source(expect: Expect, name: str, rig: SourceRig, feed: Callable[[Cells], None]) -> None:
    early, late = _values(rig.times[:3]), _values(rig.times[3:6])

    def has(cells: Cells, *, rejected: bool = False) -> Callable[[list[Batch]], bool]:
        return lambda found: (
            _cells(expect, found).keys() >= cells.keys()
            and (not rejected or any(batch.rejected for batch in found))
        )

    has_late = has(late, rejected=rig.spoil is not None)
    with load_source(name, rig.options) as source:
        source.open(None)
        before: list[Batch] = []
        for instant in rig.times[:3]:  # one time after another here, all at once below
            one = {cell: value for cell, value in early.items() if cell[1] == instant}
            feed(one)
            before += _read(expect, source, f"{one}", has(one))
        expect(_cells(expect, before) == early, f"{early}", _cells(expect, before))
        source.commit(before[-1].offset)
        if rig.spoil is not None:
            rig.spoil()
        feed(late)
        what = f"{late}" + (" and what was rejected" if rig.spoil is not None else "")
        after = _read(expect, source, what, has_late)
        expect(_cells(expect, after) == late, f"{late}", _cells(expect, after))
        more = source.read(0.0)  # a batch without rows moves the offset alone
        expect(more is None or not more.frames, "nothing more", more)
    source.close()  # for the second time: nothing happens
    if not rig.replays:
        return
    with load_source(name, rig.options) as source:
        source.open(before[-1].offset)
        found = _cells(expect, _read(expect, source, f"{what} after an offset", has_late))
        expect(found.items() >= late.items(), f"{late} after an offset", found)
        expect(found.items() <= (early | late).items(), "no other values after a restart", found)


def _values(times: Sequence[int]) -> Cells:
    return {
        (entity, time, channel): float(index + scale)
        for entity, scale in (("one", 0.5), ("two", 100.0))
        for index, time in enumerate(times)
        for channel in ("cpu", "memory")
    }


def _read(
    expect: Expect, source: Source, what: str, enough: Callable[[list[Batch]], bool]
) -> list[Batch]:
    batches: list[Batch] = []
    end = time.monotonic() + PATIENCE
    while not enough(batches):
        expect(time.monotonic() < end, f"{what} within {PATIENCE:g} s", batches)
        batch = source.read(1.0)
        if batch is not None:
            expect(isinstance(batch.offset, str), "an offset that is text", batch.offset)
            batches.append(batch)
    return batches


def _cells(expect: Expect, batches: Sequence[Batch]) -> Cells:
    """What frames say, each held to what a live frame has to be."""
    found: Cells = {}
    for frame in (frame for batch in batches for frame in batch.frames):
        expect(frame.entity, "an entity for every frame", repr(frame.entity))
        instants = [] if frame.timestamps is None else frame.timestamps.astype("int64").tolist()
        expect(len(instants) == frame.length, f"{frame.length} timestamps", len(instants))
        expect(instants == sorted(set(instants)), "times in order in a frame", instants)
        finite = [[math.isfinite(value) for value in row] for row in frame.values.tolist()]
        expect(frame.observed.tolist() == finite, "`observed` where values are finite", finite)
        for index, k in zip(*frame.observed.nonzero(), strict=True):
            cell = frame.entity or "", instants[index], frame.channels[k]
            found[cell] = float(frame.values[index, k])
    return found


def _check_sink(expect: Expect, name: str, rig: SinkRig) -> None:
    for restart in (False, True):
        sink = load_sink(name, rig.options)
        expect(sink.takes and sink.takes <= set(KINDS), f"takes to be of {KINDS}", sink.takes)
        records = [one for one in _records() if one.to_dict()["kind"] in sink.takes]
        with sink:
            sink.open()
            for _ in range(2):  # the same again is as if it had been sent once
                for one in records:
                    sink.send([one])
                sink.send(records)
                sink.flush()
                if rig.shows is not None:
                    rig.shows(records)
                if rig.received is not None:
                    _expect_keys(expect, records, rig.received(), restart and not rig.remembers)
                expect(sink.refused == 0, "no good record to be refused", sink.refused)
        sink.close()  # for the second time: nothing happens


def _expect_keys(expect: Expect, records: Sequence[Record], came: list[Key], again: bool) -> None:
    wanted, got = (sorted(keys, key=repr) for keys in (map(key_of, records), came))
    right = set(got) == set(wanted) if again else got == wanted
    expect(right, f"{len(wanted)} records" + " or more" * again, f"{len(got)}: {got}")


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
