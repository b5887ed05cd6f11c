"""What a time of day and of week says: a shop of many channels, of three and of one; a batch."""

import numpy as np
import pandas as pd
import pytest

from imdiffusion import ImDiffusion

MINUTE = pd.Timedelta("1min")
MONDAY = pd.Timestamp("2026-03-02")


def memory(rng, rows, phi, size):
    """An AR(1) of that size (rows,)."""
    push = rng.normal(0, size * np.sqrt(1 - phi**2), rows)
    found, state = np.empty(rows), 0.0
    for t in range(rows):
        state = phi * state + push[t]
        found[t] = state
    return found


class Shop:
    """A shop at a step of minutes: visits by time of day and of week drive its channels, a batch
    runs from 02:00 to 02:45, the room has a course of its own.
    """

    def __init__(self, days, start, seed, *, step=1, visits=None):
        rng = np.random.default_rng(seed)
        self.index = pd.date_range(start, periods=days * 1440 // step, freq=f"{step}min")
        self.rows = len(self.index)
        self.hour = (self.index - self.index.normalize()) / pd.Timedelta("1h")
        self.hour = self.hour.to_numpy()
        self.free = self.index.dayofweek.to_numpy() >= 5
        noon, evening = ((self.hour - mid) / width for mid, width in ((12.5, 3.0), (20.0, 1.5)))
        self.usual = 0.25 + 0.75 * np.exp(-(noon**2) / 2) + 0.35 * np.exp(-(evening**2) / 2)
        load = self.usual * np.where(self.free, 0.55, 1.0)
        load = load if visits is None else visits(load.copy(), self)
        load = load * (1 + memory(rng, self.rows, 0.97, 0.06)) + memory(rng, self.rows, 0.8, 0.015)
        self.load = np.maximum(load, 0.05)
        self.batch = ((self.hour >= 2) & (self.hour < 2.75)) * (
            1 + 0.05 * rng.normal(size=self.rows)
        )
        self.rng = rng

    def table(self, batch=True):
        load, busy = self.load, self.batch * float(batch)

        def noise(size):
            return self.rng.normal(0, size, self.rows)

        room = 22 + 2 * np.sin(2 * np.pi * (self.hour - 15) / 24)
        room += memory(self.rng, self.rows, 0.999, 0.6)
        queue = 5 + 50 * np.concatenate([np.full(5, load[0]), load[:-5]])
        columns = {"visits": 1000 * load + noise(15)}
        columns |= {f"cpu{k}": 8 + g * load + 5 * busy + noise(1.2) for k, g in enumerate((38, 33))}
        columns |= {
            "cpu_db": 10 + 30 * load + 35 * busy + noise(1.5),
            "queries": 4000 * load + 2500 * busy + noise(80),
            "latency": 40 + 35 * load**2 + 10 * busy + self.rng.gamma(2, 1.5, self.rows),
            "queue": queue + noise(1.5),
            "net_in": 12 * load + noise(0.25),
            "net_out": 90 * load + 20 * busy + noise(1.8),
            "disk_read": 20 + 15 * load + 120 * busy + self.rng.gamma(2, 2, self.rows),
            "disk_write": 30 + 40 * load + 60 * busy + noise(3),
            "cache_hit": 0.93 - 0.05 * load - 0.1 * busy + noise(0.005),
            "errors": self.rng.poisson(2 + 6 * load).astype(float),
            "room": room + noise(0.05),
            "power": 200 + 180 * load + 90 * busy + noise(4),
        }
        return pd.DataFrame(columns, index=self.index)


TEST = MONDAY + pd.Timedelta("14D")


def at(day, hour, minutes=0):
    return TEST + pd.Timedelta(days=day, hours=hour, minutes=minutes)


def without_a_noon(load, shop):
    """On the second day the visits of ten o'clock last until three; the Saturday is a weekday."""
    noon = (shop.index >= at(1, 10)) & (shop.index < at(1, 15))
    load[noon] = np.minimum(load[noon], load[noon.argmax()])
    saturday = (shop.index >= at(5, 0)) & (shop.index < at(6, 0))
    load[saturday] = shop.usual[saturday]
    return load


# name: start, minutes, channels at fault (none: all), rows that its start may be off
FAULTS = {
    "noon missing": (at(1, 10), 300, (), 180),
    "spike": (at(2, 15), 3, ("cpu1",), 3),
    "level shift": (at(3, 9), 120, ("latency",), 10),
    "variance": (at(4, 14), 120, ("net_in",), 10),
    "Saturday": (at(5, 0), 1440, (), 600),
    "frozen": (at(7, 9), 180, ("cpu0",), 30),
    "silent": (at(8, 9), 360, ("queries",), 30),
    "swapped": (at(9, 10), 120, ("cpu1", "disk_write"), 3),
    "lag": (at(10, 8), 240, ("queue",), 240),
    "drift": (at(11, 8), 720, ("cache_hit",), 400),
}


def faulty(table):
    """All faults of one channel or two."""
    rng, table = np.random.default_rng(5), table.copy()

    def rows(name):
        start, minutes, *_ = FAULTS[name]
        return (table.index >= start) & (table.index < start + minutes * MINUTE)

    table.loc[rows("spike"), "cpu1"] += 25
    table.loc[rows("level shift"), "latency"] += 15
    table.loc[rows("variance"), "net_in"] += rng.normal(size=120)
    table.loc[rows("frozen"), "cpu0"] = table.loc[rows("frozen"), "cpu0"].iloc[0]
    table.loc[rows("silent"), "queries"] = np.nan
    swapped = table.loc[rows("swapped"), ["disk_write", "cpu1"]].to_numpy()
    table.loc[rows("swapped"), ["cpu1", "disk_write"]] = swapped
    table.loc[rows("lag"), "queue"] = table["queue"].shift(30)[rows("lag")]
    table.loc[rows("drift"), "cache_hit"] -= np.linspace(0, 0.05, 720)
    return table


@pytest.fixture(scope="module")
def shop():
    train = Shop(14, MONDAY, 1).table()
    return train, faulty(Shop(14, TEST, 2, visits=without_a_noon).table())


def told(shop, columns, **settings):
    """Which faults are found: name -> (right channel first, rows its start is off by); and the
    events that meet none of those that these channels can show.
    """
    train, test = (part[columns] for part in shop)
    events = ImDiffusion("linear", **settings).fit(train).detect(test)
    start, end = (events[name].dt.tz_localize(None) for name in ("start", "end"))
    found, rest = {}, np.ones(len(events), bool)
    for name, (begin, minutes, channels, _) in FAULTS.items():
        if channels and not set(channels) & set(columns):
            continue
        until = begin + minutes * MINUTE
        met = ((start < until) & (end > begin)).to_numpy()
        rest &= ~((start < until + 10 * MINUTE) & (end > begin)).to_numpy()
        if met.any():
            worst = events[met].loc[events[met].score.idxmax()]
            right = not channels or next(iter(worst.channels)) in channels
            found[name] = (right, (start[met].min() - begin) / MINUTE)
    return found, int(rest.sum())


def test_a_shop_of_fifteen_channels(shop):
    found, rest = told(shop, list(shop[0].columns))
    assert set(found) == set(FAULTS)
    for name, (right, late) in found.items():
        assert right, name
        assert abs(late) <= FAULTS[name][3], (name, late)
    assert rest <= 3  # in two weeks


FEW = [
    ("visits", "latency", "cpu1"),
    ("cpu1", "cpu0", "queries"),
    ("queue", "cache_hit", "net_in"),
    *((name,) for name in ("visits", "latency", "cpu1", "cpu0", "net_in", "queries", "queue")),
]


@pytest.mark.parametrize("columns", FEW, ids="-".join)
def test_a_shop_of_three_channels_and_of_one(shop, columns):
    """A lag shows in what channels have to do with one another, and few tell little of that."""
    found, rest = told(shop, list(columns))
    asked = {name for name, fault in FAULTS.items() if not fault[2] or set(fault[2]) & set(columns)}
    assert set(found) >= asked - {"lag"}
    assert all(right for right, _ in found.values())
    assert rest <= 3


WEEKDAY = {"max_steps": 15, "width": 16, "layers": 1}


@pytest.mark.parametrize(("preset", "settings"), [("linear", {}), ("fast", WEEKDAY)])
@pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning")
def test_a_weekday_like_a_saturday_and_a_batch_that_did_not_run(preset, settings):
    names = ["cpu_db", "visits", "net_in", "latency", "disk_read", "power"]
    train = Shop(28, MONDAY, 0, step=15).table()[names]
    detector = ImDiffusion(preset, **settings).fit(train)
    start = MONDAY + pd.Timedelta("28D")
    clean = Shop(14, start, 7, step=15).table()[names]
    assert np.mean(detector.predict(clean)) <= 0.005  # .001 is promised
    wednesday = clean.copy()
    wednesday.iloc[192:288] = clean.iloc[480:576].to_numpy()
    assert detector.decision_function(wednesday)[192:288].max() > 1.2
    idle = clean.copy()
    night = slice(3 * 96 + 8, 3 * 96 + 11)  # 02:00 to 02:45 of the fourth day
    idle.iloc[night] = Shop(14, start, 7, step=15).table(batch=False)[names].iloc[night]
    analysis = detector.analyze(idle)
    met = [one for one in analysis.events if one.start < 3 * 96 + 20 and one.end > 3 * 96 + 8]
    assert met
    assert met[0].channels[0] in ("cpu_db", "disk_read")
