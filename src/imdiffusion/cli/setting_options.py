"""The detector's keywords from a TOML file, `--set` and options, in that order of strength."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from imdiffusion import registry
from imdiffusion.devices import check_device
from imdiffusion.errors import ConfigError, UsageError
from imdiffusion.presets import resolve
from imdiffusion.settings import TYPES, Settings

KINDS: dict[str, str] = {
    "preset": "str",
    "seed": "int",
    "device": "str",
    **{item.name: str(item.type) for item in fields(Settings)},
}
_WORDS = {"true": True, "false": False}


def keywords(
    config: Path | None = None, pairs: Sequence[str] | None = None, **options: Any
) -> dict[str, Any]:
    """The keywords of `ImDiffusion`: preset, seed, device and every setting that was given.

    An option that is None was not given. Raises UsageError for a pair without "=", ConfigError
    for an unreadable file, an unknown key, a wrong type or a value out of range.
    """
    given: dict[str, Any] = {"preset": "fast", "seed": 0, "device": "auto"}
    given |= read_config(config) if config is not None else {}
    given |= dict(_parsed(pair) for pair in pairs or ())
    given |= {name: value for name, value in options.items() if value is not None}
    check(given)
    return given


def assignments(pairs: Sequence[str] | None) -> dict[str, Any]:
    """The settings of `--set KEY=VALUE` pairs. Raises UsageError, ConfigError."""
    given = dict(_parsed(pair) for pair in pairs or ())
    _check_keys(given)
    return given


def check(given: Mapping[str, Any]) -> Settings:
    """The settings that the keywords `given` resolve to; ConfigError if they do not."""
    _check_keys(given)
    _check_face(given)
    own = {name: value for name, value in given.items() if name not in ("preset", "seed", "device")}
    return resolve(given.get("preset", "fast"), own)


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
        check(given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", remedy=error.remedy) from error
    return given


def _check_keys(given: Mapping[str, Any]) -> None:
    for key in given:
        if key not in KINDS:
            raise ConfigError(f"unknown setting {key!r}", remedy=registry.nearest(key, KINDS))


def _check_face(given: Mapping[str, Any]) -> None:
    """The three keywords that are not settings of a preset."""
    seed = given.get("seed", 0)
    if not isinstance(given.get("preset", "fast"), str):
        raise ConfigError(f"setting preset = {given['preset']!r} is not of type str")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"setting seed = {seed!r} is not a whole number from 0 on")
    check_device(given.get("device", "auto"))


def _parsed(pair: str) -> tuple[str, Any]:
    """`key=value` with the value in the setting's own type."""
    key, equals, text = (part.strip() for part in pair.partition("="))
    if not (key and equals):
        raise UsageError(f"--set {pair!r} is not KEY=VALUE", remedy="For instance --set window=50.")
    _check_keys({key: text})
    kind = KINDS[key]
    try:
        if kind == "bool":
            return key, _WORDS[text.lower()]
        return key, TYPES[kind](text)
    except (ValueError, KeyError):
        raise ConfigError(
            f"setting {key} = {text!r} is not of type {kind}",
            remedy="imdiffusion config show lists every setting with its meaning.",
        ) from None


def toml(settings: Settings, face: Mapping[str, Any]) -> str:
    """A TOML file that says `face` (preset, seed, device) and every setting with its meaning."""
    lines = [f"{name} = {_literal(value)}" for name, value in face.items()]
    for item in fields(settings):
        meta = item.metadata
        choices = meta["choices"] or (registry.names(meta["table"]) if meta["table"] else ())
        told = f": {', '.join(choices)}" if choices else ""
        value = _literal(getattr(settings, item.name))
        lines += ["", f"# {meta['meaning']}{told}", f"{item.name} = {value}"]
    return "\n".join(lines)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
