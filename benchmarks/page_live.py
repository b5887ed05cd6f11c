"""The live page of 600 entities in headless Chromium: seconds to the first view, milliseconds from
a row that is sent to its lane on the screen.

`imdiffusion serve` is a process of its own, over a live state that holds an hour of 600 entities x
38 channels. Rows go in through its API, a baseline scores them, they are written down, and the page
hears of them by server-sent events. What is written down comes first, so the wait for a checkpoint
(`[stream] every`) is part of it: measured as it is by default and at .05 s. Goals: first view in 2
s, a row on the screen 200 ms after it was written down.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ledger
import numpy as np
from serving import CHANNELS, MINUTE, Service, bodies, names, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live" / "service"))

from chromium import PROGRAM, Chromium
from page_story import Story

from imdiffusion.live.models.pinned import Places
from imdiffusion.live.store.live_state import Store

WARM = 12  # rows of each entity after which the baseline speaks
BEHIND = 50  # minutes before now at which the story ends and the rows that are sent begin
FIRST, UPDATE = 2.0, 200.0  # goals: seconds, milliseconds
WATCHED = 5  # the entity whose rows come alone
# Notes when every one of these entities has got so far and two frames were drawn after it.
LOOK = """{{
    const names = {names}, frame = requestAnimationFrame;
    window.shown = null;
    const there = () => names.every(name => (imdiffusion.entities.get(name)?.time ?? 0) >= {time});
    const look = () => there() ? frame(() => frame(() => window.shown = Date.now())) : frame(look);
    look();
}}"""


def first_views(service: Service, times: int) -> list[float]:
    """Seconds from a navigation to all lanes and cards, each in a browser of its own."""
    found = []
    for _ in range(times):
        with Chromium(1400, 900) as browser:
            visit(browser, service)
            found.append(browser.evaluate("imdiffusion.state.drawn") / 1000)
    return found


def visit(browser: Chromium, service: Service) -> None:
    browser.call("Page.navigate", url=service.address)
    browser.wait("window.imdiffusion?.state.drawn")
    browser.settle()


class Sender:
    """Minute after minute of some entities, each awaited on the screen of the browser it is given.

    The entity that is watched alone has minutes of its own: no row may be missing before another.
    """

    def __init__(self, entities: Sequence[str], start: int) -> None:
        self.entities, self.start = list(entities), start
        self.row = 0  # the next one

    def shown(self, browser: Chromium, service: Service, rows: int = 1) -> float:
        """Milliseconds from the first request to the last of the lanes on the screen."""
        due = range(self.row, self.row + rows)
        self.row += rows
        requests = bodies(self.entities, due, self.start)
        time_s = (self.start + due[-1] * MINUTE) / 1e9 - 0.001
        browser.evaluate(LOOK.format(names=self.entities, time=time_s))
        began = time.time() * 1000
        for body in requests:
            service.push(body)
        return float(browser.wait("window.shown")) - began


def updates(
    folder: Path, senders: dict[str, Sender], every: float, times: dict[str, int]
) -> list[dict[str, Any]]:
    """A row of one entity, and a row of each other: how long until they are on the screen."""
    found = []
    with serving(folder, every=every) as service, Chromium(1400, 900) as browser:
        visit(browser, service)
        for what, sender in senders.items():
            if sender.row == 0:
                sender.shown(browser, service, WARM)
            taken = [sender.shown(browser, service) for _ in range(times[what])]
            found.append(row_of(f"{what}, checkpoints every {every:g} s", taken))
        if browser.trouble:
            sys.exit(f"the page reports trouble: {browser.trouble}")
    return found


def row_of(what: str, taken: Sequence[float]) -> dict[str, Any]:
    return {
        "what": what,
        "median_ms": round(float(np.median(taken))),
        "worst_ms": round(float(np.max(taken))),
        "times": len(taken),
    }


def main() -> None:
    """Measure the first view, then what comes in, and keep the numbers."""
    small = ledger.small()
    if shutil.which(PROGRAM) is None:
        print(f"not measured: {PROGRAM} is not installed (apt-get install {PROGRAM})")
        return
    count, rows, views, times = (12, 10, 1, (2, 1)) if small else (600, 60, 5, (15, 4))
    each = {"a row of one entity": times[0], "a row of all": times[1]}
    entities = names(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = Places(folder / "state")
        places.make()
        story = Story(count, rows, channels=CHANNELS, now=time.time_ns() - BEHIND * MINUTE)
        with Store(places.live) as store:
            story.write(store)
        start = story.now // MINUTE * MINUTE + MINUTE
        with serving(folder) as service:
            views_s = first_views(service, views)
        found = [row_of("first view", [1000 * seconds for seconds in views_s])]
        one, others = (
            entities[WATCHED : WATCHED + 1],
            [*entities[:WATCHED], *entities[WATCHED + 1 :]],
        )
        senders = dict(zip(each, (Sender(one, start), Sender(others, start)), strict=True))
        found += updates(folder, senders, 1.0, each)
        quick = updates(folder, senders, 0.05, each)
        found += quick
    for row in found:
        row |= {"entities": count, "channels": len(CHANNELS)}
    ledger.keep("page_live", found, small=small)
    if not small and (max(views_s) > FIRST or quick[0]["median_ms"] > UPDATE):
        sys.exit(f"goal missed: first view in {FIRST} s, a row on the screen in {UPDATE} ms")


if __name__ == "__main__":
    main()
