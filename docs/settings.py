"""Writes docs/settings.md from the settings: `python docs/settings.py`, or `make docs`."""

from __future__ import annotations

from pathlib import Path

from imdiffusion.presets import PRESETS
from imdiffusion.schema import spelled
from imdiffusion.settings import SETTINGS

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
    for name, item in SETTINGS.items():
        values = [_shown(getattr(PRESETS[preset], name)) for preset in names]
        choices = ", ".join(f"`{choice}`" for choice in item.names)
        rows.append([f"`{name}`", item.meaning, choices or item.span, *values])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return f"{HEAD}\n{table}\n"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else spelled(value)


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(page())
