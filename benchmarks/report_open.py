"""Seconds until a report of 38 channels x 100,000 points is drawn in headless Chromium.

Goal: 5 s to the first full screen. Also measured: a screen so tall that every channel is on it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))

from chromium import PROGRAM, Chromium
from story import story

from imdiffusion.report.page import write_report

GOAL = 5.0
CHANNELS = 38
ZOOM = """new Promise(done => {
    const start = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "+", bubbles: true }));
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})"""


def opened(page: Path, height: int) -> dict[str, Any]:
    """Open `page` on a screen of that height; seconds since navigation began, and memory."""
    with Chromium(1400, height) as browser:
        browser.open(page)
        drawn = browser.evaluate("imdiffusion.state.drawn") / 1000
        charts = browser.evaluate("imdiffusion.state.figures.filter(f => f.chart).length")
        zoom = browser.evaluate(ZOOM) / 1000
        browser.call("HeapProfiler.collectGarbage")
        heap = browser.call("Runtime.getHeapUsage")
        if browser.trouble:
            sys.exit(f"the page reports trouble: {browser.trouble}")
    return {
        "channel_charts_drawn": charts,
        "drawn_s": round(drawn, 3),
        "zoom_s": round(zoom, 3),
        "js_heap_mb": round(heap["usedSize"] / 1e6, 1),
        "array_buffers_mb": round(heap.get("backingStorageSize", 0) / 1e6, 1),
    }


def main() -> None:
    """Write the page, open it on an ordinary and on a very tall screen, keep the numbers."""
    small = ledger.small()
    if shutil.which(PROGRAM) is None:
        print(f"not measured: {PROGRAM} is not installed (apt-get install {PROGRAM})")
        return
    rows = 2_000 if small else 100_000
    one = story(rows, CHANNELS)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        page = write_report(
            Path(folder) / "report.html", [one.analysis], title="Opening", faults=one.faults
        )
        written = time.perf_counter() - start
        for screen, height in (("ordinary screen", 900), ("every channel at once", 6000)):
            results.append(
                {
                    "screen": screen,
                    "rows": rows,
                    "channels": CHANNELS,
                    **opened(page, height),
                    "page_mb": round(page.stat().st_size / 1e6, 2),
                    "written_s": round(written, 2),
                }
            )
    ledger.keep("report_open", results, small=small)
    if not small and results[0]["drawn_s"] > GOAL:
        sys.exit(f"goal missed: the first full screen is to take under {GOAL} s")


if __name__ == "__main__":
    main()
