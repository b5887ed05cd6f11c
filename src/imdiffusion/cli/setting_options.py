"""The detector's keywords from a TOML file, `--set` and options, in that order of strength."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imdiffusion.errors import ConfigError, UsageError
from imdiffusion.presets import KEYWORDS, USUAL, resolve_keywords
from imdiffusion.schema import one_of
from imdiffusion.settings import SETTINGS, Settings


def keywords(
    config: Path | None = None, pairs: Sequence[str] | None = None, **options: Any
) -> dict[str, Any]:
    """The keywords of `ImDiffusion`: preset, seed, device and every setting that was given.

    An option that is None was not given. Raises UsageError for a pair without "=", ConfigError
    for an unreadable file, an unknown key, a wrong type or a value out of range.
    """
    given = dict(USUAL)
    given |= read_config(config) if config is not None else {}
    given |= assignments(pairs)
    given |= {name: value for name, value in options.items() if value is not None}
    resolve_keywords(given)
    return given


def assignments(pairs: Sequence[str] | None) -> dict[str, Any]:
    """The settings of `--set KEY=VALUE` pairs. Raises UsageError, ConfigError."""
    given = {}
    for pair in pairs or ():
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not (key and equals):
            raise UsageError(
                f"--set {pair!r} is not KEY=VALUE", remedy="For instance --set window=50."
            )
        given[key] = KEYWORDS[one_of("setting", key, KEYWORDS)].parse(text, f"setting {key}")
    return given


def read_config(path: Path) -> dict[str, Any]:
    """The keys of a TOML file, checked; ConfigError that names the file."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"the configuration {path} does not exist",
            remedy=f"Write one with: imdiffusion config show > {path}.",
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for key, value in given.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{path} has a table [{key}]", remedy="Settings are flat: key = value, no tables."
            )
    try:
        resolve_keywords(given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", remedy=error.remedy) from error
    return given


def toml(settings: Settings, face: Mapping[str, Any]) -> str:
    """A TOML file that says `face` (preset, seed, device) and every setting with its meaning."""
    lines = [f"{name} = {_literal(value)}" for name, value in face.items()]
    for name, value in settings.to_dict().items():
        item = SETTINGS[name]
        names = f": {', '.join(item.names)}" if item.names else ""
        lines += ["", f"# {item.meaning}{names}", f"{name} = {_literal(value)}"]
    return "\n".join(lines)


def _literal(value: object) -> str:
    """As TOML has it, which writes these types as JSON does."""
    return json.dumps(value, ensure_ascii=False)
