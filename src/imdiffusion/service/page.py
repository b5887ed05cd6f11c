"""The files of the page: read from the package once, kept in memory, known by name alone."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

PAGE = "index.html"
# In this order; the first ones are those of the offline report: one look, one set of charts.
REPORT = ("format", "view", "paint", "charts", "channels")
OWN = ("net", "model", "lanes", "series", "cards", "hands", "live")
_STYLES = ("vendor/uPlot.min.css", "page/page.css", "page/chrome.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    content: bytes
    kind: str


def assets() -> dict[str, Asset]:
    """Every file of the page by its name."""
    report, own = "imdiffusion.report", "imdiffusion.service"
    library = _text(report, "vendor/uPlot.iife.min.js").split("\n", 1)[1]  # less its address
    parts = [_text(report, f"page/{name}.js") for name in REPORT]
    parts += [_text(own, f"page/{name}.js") for name in OWN]
    script = library + '\n(() => {\n"use strict";\n' + "".join(parts) + "})();\n"
    style = "\n".join([_text(report, name) for name in _STYLES] + [_text(own, "page/live.css")])
    return {
        PAGE: Asset(_text(own, "page/index.html").encode(), "text/html; charset=utf-8"),
        "live.js": Asset(script.encode(), "text/javascript; charset=utf-8"),
        "live.css": Asset(style.encode(), "text/css; charset=utf-8"),
        "licences.txt": Asset(
            _text(report, "vendor/LICENSE-uplot.txt").encode(), "text/plain; charset=utf-8"
        ),
    }


def _text(package: str, name: str) -> str:
    return files(package).joinpath(*name.split("/")).read_text(encoding="utf-8")
