"""One description of fields: the same checks for everything that is set by a person."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import pytest

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.presets import KEYWORDS
from imdiffusion.schema import (
    NEEDED,
    Field,
    Fields,
    checked,
    field,
    fields_of,
    keywords_of,
    one_of,
    pairs_of,
    spelled,
    wrong_keys,
)

CLASSES = (
    "imdiffusion.settings:Settings",
    *(
        f"imdiffusion.live.config.schema:{name}Section"
        for name in ("State", "Alert", "Stream", "Fit", "Serve", "Model")
    ),
    "imdiffusion.live.service.middleware:Limits",
    "imdiffusion_bench.generator.config:Dials",
    "imdiffusion_bench.behaviours.config:SystemDials",
)


def described(path: str) -> type[Fields]:
    module, _, name = path.partition(":")
    found: type[Fields] = getattr(import_module(module), name)
    return found


def every_field():
    """All fields of all users, as (who has it, the field)."""
    for path in CLASSES:
        yield from ((path.partition(":")[2], item) for item in fields_of(described(path)).values())
    yield from (("ImDiffusion", KEYWORDS[name]) for name in ("preset", "seed"))
    for table in ("sources", "sinks"):
        for name in registry.names(table):
            options = keywords_of(registry.load(table, name))
            yield from ((f"{table[:-1]} {name}", item) for item in options.values())


FIELDS = [pytest.param(item, id=f"{who}.{item.name}") for who, item in every_field()]


def wrong_values(item: Field):
    """Values that the field must refuse, with what is said of each."""
    other = {str: 3, int: 1.5, float: "0.5", bool: 1}[item.kind]
    yield ([other] if item.many else other), "is not "
    yield ([None] if item.many else [item.default]), "is not "
    if item.kind in (int, float):
        yield ([True] if item.many else True), "is not "
    ends = [(item.low, -1), (item.high, 1), (item.above, 0)]
    outside = [end + step for end, step in ends if end is not None]
    outside += [math.nan, math.inf] if item.kind is float else []
    for number in outside:
        value = item.kind(number) if math.isfinite(number) else number
        yield ([value] if item.many else value), "out of range"
    if item.names:
        yield (["no such"] if item.many else "no such"), "none of its choices"
    if item.many and item.default not in ((), NEEDED):
        yield [], "is empty"


@pytest.mark.parametrize("item", FIELDS)
def test_every_field_refuses_what_it_cannot_be_and_says_what_it_can(item):
    for value, said in wrong_values(item):
        with pytest.raises(ConfigError, match=said) as caught:
            item.check(value, f"key {item.name}")
        assert caught.value.what.startswith(f"key {item.name} = {value!r} ")
        assert caught.value.remedy
        if said == "is not " and item.meaning:
            assert item.meaning in caught.value.remedy


@pytest.mark.parametrize("item", FIELDS)
def test_every_default_is_right_reads_back_and_fits_its_schema(item):
    if item.default in (NEEDED, None):
        assert item.default is NEEDED or item.optional
        return
    assert item.check(item.default) == item.default
    assert item.parse(spelled(item.default)) == item.default
    if item.many:
        assert item.check(list(item.default)) == item.default
    found = json.loads(json.dumps(item.json_schema()))
    one = found["items"] if item.many else found
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool}
    assert kinds[one["type"] if isinstance(one["type"], str) else one["type"][0]] is item.kind
    assert found["default"] == (list(item.default) if item.many else item.default)
    for value in item.default if item.many else (item.default,):
        assert value in one.get("enum", [value])
        assert one.get("minimum", value) <= value <= one.get("maximum", value)


@pytest.mark.parametrize("path", CLASSES)
def test_every_class_is_checked_as_it_is_built_and_names_the_nearest(path):
    kind = described(path)
    usual, known = kind(), fields_of(kind)
    assert kind.from_dict(usual.to_dict()) == usual
    texts = {name: spelled(item.default) for name, item in known.items()}
    assert kind.from_texts(texts) == usual
    assert usual.spelled() == ""
    assert json.loads(json.dumps(usual.to_dict())).keys() == known.keys()
    for name, item in known.items():
        value, _ = next(wrong_values(item))
        with pytest.raises(ConfigError, match=f"{kind.called} {name} = "):
            kind(**{name: value})
        with pytest.raises(ConfigError, match=f"unknown {kind.called} '{name}x'.*'{name}'"):
            kind.from_dict({f"{name}x": 1})
        with pytest.raises(ConfigError, match=f"unknown {kind.called} '{name}x'.*'{name}'"):
            kind.from_texts({f"{name}x": "1"})


@dataclass(frozen=True, slots=True)
class Wind(Fields):
    called = "reading"

    speed: float = field(1.0, "metres a second", above=0)
    gusts: tuple[int, ...] = field((1, 5), "minutes over which the highest is taken", low=1)
    where: tuple[str, ...] = field((), "names of masts")
    kept: bool = field(False, "whether it is kept")
    plain: int = 3  # not described, so no key


def test_a_class_of_ones_own():
    found = Wind.from_texts({"speed": "2", "gusts": " 3, 4", "where": "", "kept": "TRUE"})
    assert found == Wind(speed=2, gusts=[3, 4], kept=True)
    assert type(found.speed) is float
    assert found.to_dict() == {"speed": 2.0, "gusts": [3, 4], "where": [], "kept": True}
    assert found.spelled() == "gusts=3,4,kept=true,speed=2.0"
    for text, said in (("fast", "'fast' is not a number"), ("nan", "nan is out of range")):
        with pytest.raises(ConfigError, match=f"reading speed = {said}"):
            Wind.from_texts({"speed": text})
    with pytest.raises(ConfigError, match=r"gusts = '1,5' is not a list of whole numbers.*\[3\]"):
        Wind(gusts="1,5")


class Typed:
    def __init__(
        self, *, needed: str, way: Literal["a", "b"] = "a", name: str | None = None
    ) -> None: ...


def test_the_keywords_of_a_constructor():
    known = keywords_of(Typed)
    assert known["needed"].default is NEEDED is inspect.Parameter.empty
    assert checked(known, {"needed": "n", "name": None}, "option") == {"needed": "n", "name": None}
    for given, said in (
        ({}, r"the option needed is missing\. Give needed = "),
        ({"needed": "n", "way": "c"}, "option way = 'c' is none of its choices"),
        ({"needed": "n", "nam": "x"}, "unknown option 'nam'.*'name'"),
    ):
        with pytest.raises(ConfigError, match=said):
            checked(known, given, "option")
    assert wrong_keys(known, {"needed": "n"}) == {}
    wrong = wrong_keys(known, {"way": 3, "nam": "x"})
    assert list(wrong) == ["way", "nam", "needed"]  # all of them, without their place
    assert str(wrong["way"]).startswith("3 is not text.")

    def positional(given: int) -> None: ...

    with pytest.raises(TypeError, match="'given' has to be a keyword-only option"):
        keywords_of(positional)

    def odd(*, given: set[int]) -> None: ...

    with pytest.raises(TypeError, match="'given' has the type"):
        keywords_of(odd)


def test_names_and_pairs():
    assert one_of("mask", "random", ["random"]) == "random"
    with pytest.raises(ConfigError, match=r"unknown mask 'randm'\. Did you mean 'random'"):
        one_of("mask", "randm", ["random"])
    with pytest.raises(ConfigError, match=r"unknown mask 3\. There is none"):
        one_of("mask", 3, [])
    assert pairs_of("a=1, b = x=y,") == {"a": "1", "b": "x=y"}
    for text, said in (("a", "no name=value"), ("a=", "no name=value"), ("a=1,a=2", "twice")):
        with pytest.raises(ConfigError, match=said):
            pairs_of(text)
