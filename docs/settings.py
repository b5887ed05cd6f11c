"""Writes docs/settings.md from the settings: `python docs/settings.py`, or `make docs`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from imdiffusion import registry
from imdiffusion.presets import PRESETS
from imdiffusion.settings import Settings

HEAD = """# Settings

<!-- Written by docs/settings.py from the package's settings.py and presets.py: change it there. -->

Every setting is a keyword of `ImDiffusion(preset="fast", ...)`, a key of the TOML file,
`--set key=value` on the command line, and a line of a saved model's `config.json`.
`imdiffusion config schema` prints the same as JSON Schema. [code] is what the released research
code does, [paper] is arXiv 2307.00754; [method.md](method.md) says where each is used.
"""


def page() -> str:
    """The whole document: one table row a setting."""
    names = list(PRESETS)
    rows = [["setting", "meaning", "values", *(f"`{name}`" for name in names)]]
    rows.append(["---"] * len(rows[0]))
    for item in fields(Settings):
        values = [_shown(getattr(PRESETS[name], item.name)) for name in names]
        rows.append([f"`{item.name}`", item.metadata["meaning"], _span(item.metadata), *values])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return f"{HEAD}\n{table}\n"


def _span(meta: Any) -> str:
    names = meta["choices"] or (registry.TABLES[meta["table"]] if meta["table"] else ())
    if names:
        return ", ".join(f"`{name}`" for name in names)
    low, high = meta["low"], meta["high"]
    if high is not None:
        return f"{low:g} to {high:g}"
    return "" if low is None else f"at least {low:g}"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(page())
