"""The few shapes that the plots are made of, as SVG text; every word in them is escaped here."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

WIDTH = 440  # units across a plot; on a phone it is scaled down a little and stays readable
_NARROW, _WIDE = frozenset("fijlrtI.,:;'|!()[]- "), frozenset("mwMW@%&")


def safe(text: str) -> str:
    """Text on one line for HTML and SVG: escaped, and what cannot be printed is �."""
    return escape("".join(c if c.isprintable() else "�" for c in " ".join(text.split())))


def text_width(text: str) -> float:
    """How wide a text of 12 px is drawn, in units: about, and rather too wide than too narrow."""
    return sum(_character(c) for c in text)


def shortened(text: str, most: float) -> str:
    """The text, or its two ends around an ellipsis where it is wider than `most` units.

    Both ends, as many names differ in their last words.
    """
    if text_width(text) <= most:
        return text
    half = (most - text_width("…")) / 2
    return _fitting(text, half).rstrip() + "…" + _fitting(text[::-1], half)[::-1].lstrip()


def short_names(names: Iterable[str], most: float) -> dict[str, str]:
    """Each name as it is drawn, at most `most` units wide.

    Of names that are wider, words that they have in common give way to an ellipsis, the commonest
    first: what is left tells them apart.
    """
    known = tuple(names)
    wide = (name for name in known if text_width(name) > most)
    shared = Counter(word for name in wide for word in {*name.split()})
    return {name: _without_common(name, shared, most) for name in known}


def _without_common(name: str, shared: Counter[str], most: float) -> str:
    left = name.split()
    for word in sorted({*left}, key=lambda one: (-shared[one], -len(one), one)):
        if text_width(name) <= most or shared[word] == 1:
            break
        left = ["…" if one == word else one for one in left]
        name = re.sub(r"([\s,]*…\s*)+", "…", " ".join(left))
    return shortened(name, most)


def _fitting(text: str, most: float) -> str:
    """As much of the beginning of a text as is not wider than `most` units."""
    used = 0.0
    for kept, character in enumerate(text):
        used += _character(character)
        if used > most:
            return text[:kept]
    return text


def words(
    x: float, y: float, text: str, *, anchor: str = "start", kind: str = "", full: str = ""
) -> str:
    """A text; its `full` form, where another, is shown on hovering."""
    told = f"<title>{safe(full)}</title>" if full and full != text else ""
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{safe(text)}{told}</text>'


def line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" class="{kind}"/>'


def dot(x: float, y: float, radius: float, kind: str, told: str = "") -> str:
    """A disc; `told` is shown on hovering."""
    inside = f"<title>{safe(told)}</title>" if told else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}">{inside}</circle>'


def drawing(height: float, label: str, parts: Sequence[str]) -> str:
    """The whole plot; `label` is what is read out in its place."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{safe(label)}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers from `low` to `high`, both finite and low < high."""
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _character(c: str) -> float:
    if unicodedata.east_asian_width(c) in "WF":
        return 12.0
    return 4.8 if c in _NARROW else 11.6 if c in _WIDE else 8.6 if c.isupper() else 7.5
