"""One description of a key that a person sets: its name, type, default, meaning and range.

A setting of the detector, a key of `imdiffusion.toml`, an option of a source or sink and a dial of
the benchmark's generators are each a `Field`. It checks a value, reads one from text, writes its
JSON Schema, and every error says what it may be. The unit of a number stands in its meaning.

Fields are declared where their values live: as a dataclass on `Fields`, with `field` for each,

    @dataclass(frozen=True, slots=True)
    class Wind(Fields):
        speed: float = field(0.0, "metres a second", low=0)
        gusts: tuple[int, ...] = field((1, 5), "minutes over which the highest is taken", low=1)

or as the keyword-only arguments of a constructor (`keywords_of`). Where a field is a list, it is a
tuple in Python, an array in TOML and JSON, and words with commas in text (`--set gusts=1,5`).
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType
from typing import Any, ClassVar, Literal, Self, cast, get_args, get_origin, get_type_hints

from imdiffusion.errors import ConfigError

Value = Any  # str, int, float, bool, or a tuple of one of them
Choices = tuple[str, ...] | Callable[[], tuple[str, ...]]
NEEDED: Any = inspect.Parameter.empty  # the default of a field that has to be given

# Of each type: in words, of a list of it, in JSON Schema, and one as it is written.
_KINDS: dict[type, tuple[str, str, str, str]] = {
    str: ("text", "a list of texts", "string", '"text"'),
    int: ("a whole number", "a list of whole numbers", "integer", "3"),
    float: ("a number", "a list of numbers", "number", "0.5"),
    bool: ("true or false", "a list of true and false", "boolean", "true"),
}
_TRUTH = {"true": True, "false": False}


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names most like `name`, as a phrase for an error's remedy."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}?"
    return f"Known: {', '.join(names)}." if names else "There is none."


def one_of(what: str, name: object, known: Iterable[str]) -> str:
    """`name` if it is known; else ConfigError "unknown WHAT 'name'" with the nearest names."""
    names = tuple(known)
    if name not in names:
        raise ConfigError(f"unknown {what} {name!r}", remedy=nearest(str(name), names))
    return str(name)


def positive(**values: float) -> None:
    """Raise ConfigError, naming the option, unless every value is above zero and finite."""
    for option, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{option} is {value}", remedy="Give a number above zero.")


def spelled(value: Value) -> str:
    """A value as `Field.parse` reads it back: lists with commas, true and false in small."""
    if isinstance(value, list | tuple):
        return ",".join(map(spelled, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key. `kind` is the type of its value, or of each item where it is a list (`many`).

    default: `NEEDED` where it has to be given. low, high: the least and the most that a number may
    be; above: it must be above that. choices: names, or a function that lists them. optional: it
    may be None. rule: raises ConfigError for what is wrong otherwise. A list may be empty only
    where that is the default.
    """

    name: str
    kind: type
    default: Value = NEEDED
    meaning: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: Choices = ()
    many: bool = False
    optional: bool = False
    rule: Callable[[Any], object] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names it may be; () where it is not chosen by name."""
        return self.choices() if callable(self.choices) else self.choices

    @property
    def span(self) -> str:
        """The range in words, as in "at least 1", "from 0 to 1", "above 0"; "" for any."""
        if self.low is not None and self.high is not None:
            return f"from {self.low:g} to {self.high:g}"
        ends = (("at least", self.low), ("above", self.above), ("at most", self.high))
        return " and ".join(f"{words} {end:g}" for words, end in ends if end is not None)

    def check(self, value: object, called: str = "") -> Value:
        """`value` in this field's own type: a whole number as a float, a list as a tuple.

        called: what an error says it is, as in "setting window". Raises ConfigError for a wrong
        type, a name that is none of the choices, a number out of range or not finite.
        """
        if value is None and self.optional:
            return None
        words, words_of_many, _, example = _KINDS[self.kind]
        listed = isinstance(value, list | tuple)
        items = tuple(cast(Any, value)) if listed else (value,)
        at = f"{called} = {value!r}" if called else repr(value)
        if listed != self.many or not all(map(self._typed, items)):
            raise ConfigError(
                f"{at} is not {words_of_many if self.many else words}",
                remedy=(f"It is: {self.meaning}. " if self.meaning else "")
                + f"Write for instance {f'[{example}]' if self.many else example}.",
            )
        if not items and self.default not in ((), NEEDED):
            raise ConfigError(f"{at} is empty", remedy="Give one at least.")
        known = self.names
        for item in items:
            if known and item not in known:
                which = f"names {item!r}, which " if self.many else ""
                raise ConfigError(
                    f"{at} {which}is none of its choices", remedy=nearest(str(item), known)
                )
            if self.kind in (int, float) and not self._within(cast(float, item)):
                each = "Each" if self.many else "It"
                raise ConfigError(
                    f"{at} is out of range", remedy=f"{each} must be {self.span or 'finite'}."
                )
        made = tuple(map(self.kind, items))
        if self.rule is not None:
            self.rule(made if self.many else made[0])
        return made if self.many else made[0]

    def parse(self, text: str, called: str = "") -> Value:
        """The value that a text says, checked: "5", "true", "spread,peak". Raises ConfigError."""
        if not self.many:
            return self.check(self._read(text), called)
        words = [word.strip() for word in text.split(",")]
        return self.check([self._read(word) for word in words if word], called)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of the value, with its meaning and default."""
        limits: dict[str, Any] = {
            "enum": list(self.names) or None,
            "minimum": self.low,
            "exclusiveMinimum": self.above,
            "maximum": self.high,
        }
        kind = _KINDS[self.kind][2]
        one = {"type": [kind, "null"] if self.optional else kind}
        one |= {name: limit for name, limit in limits.items() if limit is not None}
        found = {"type": "array", "items": one} if self.many else one
        found |= {"description": self.meaning} if self.meaning else {}
        return found | ({} if self.default is NEEDED else {"default": self.default})

    def _typed(self, item: object) -> bool:
        if isinstance(item, bool) or self.kind is bool:
            return isinstance(item, bool) and self.kind is bool
        return isinstance(item, int | float if self.kind is float else self.kind)

    def _within(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.low is None or number >= self.low)
            and (self.above is None or number > self.above)
            and (self.high is None or number <= self.high)
        )

    def _read(self, text: str) -> object:
        """The text in the field's type, or as it is, for `check` to refuse."""
        if self.kind is bool:
            return _TRUTH.get(text.lower(), text)
        try:
            return self.kind(text)
        except ValueError:
            return text


def field(
    default: Value,
    meaning: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: Choices = (),
) -> Any:
    """A field of a dataclass on `Fields`; the arguments are those of `Field`."""
    facts = {"meaning": meaning, "low": low, "above": above, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=facts)


_fields: dict[type, Mapping[str, Field]] = {}


def fields_of(described: type) -> Mapping[str, Field]:
    """The fields of a dataclass by name: those that `field` made, in its order."""
    if described not in _fields:
        hints = get_type_hints(described)
        _fields[described] = {
            item.name: _described(item.name, hints[item.name], item.default, **item.metadata)
            for item in dataclasses.fields(cast(Any, described))
            if item.metadata
        }
    return _fields[described]


def keywords_of(make: type) -> dict[str, Field]:
    """The keyword-only arguments of a constructor, as their annotations describe them.

    `Literal` is a choice, `| None` makes it optional. Raises TypeError for an argument that is not
    keyword-only, or of another type than a field may have.
    """
    hints = get_type_hints(cast(Any, make).__init__)
    found = {}
    for name, parameter in inspect.signature(make).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{make.__name__}: {name!r} has to be a keyword-only option")
        found[name] = _described(name, hints.get(name), parameter.default)
    return found


def _described(name: str, hint: Any, default: Value, **facts: Any) -> Field:
    optional = NoneType in get_args(hint)
    if optional:
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    many = get_origin(hint) is tuple
    hint = get_args(hint)[0] if many else hint
    if get_origin(hint) is Literal:
        facts, hint = {**facts, "choices": get_args(hint)}, str
    if hint not in _KINDS:
        raise TypeError(f"{name!r} has the type {hint}, which no field has")
    return Field(name=name, kind=hint, default=default, many=many, optional=optional, **facts)


def checked(
    known: Mapping[str, Field], given: Mapping[str, object], called: str
) -> dict[str, Value]:
    """The values of `given`, each as its field has it; ConfigError for the first that is wrong.

    Wrong is also a name that is not known, and a field that is needed and not given.
    """
    made = {
        name: known[one_of(called, name, known)].check(value, f"{called} {name}")
        for name, value in given.items()
    }
    for name, item in known.items():
        if item.default is NEEDED and name not in given:
            raise ConfigError(f"the {called} {name} is missing", remedy=f"Give {name} = ...")
    return made


def wrong_keys(known: Mapping[str, Field], table: Mapping[str, object]) -> dict[str, ConfigError]:
    """What is wrong with each key of a table that is wrong, or is needed and not there."""
    found = {}
    for name in dict.fromkeys((*table, *known)):
        try:
            if name not in table:
                checked({name: known[name]}, {}, "key")
            else:
                known[one_of("key", name, known)].check(table[name])
        except ConfigError as error:
            found[name] = error
    return found


def pairs_of(text: str, what: str = "") -> dict[str, str]:
    """Of "noise=0.1, channels=3" each name with its text; ConfigError for anything else.

    what: what an error says the text is.
    """
    found: dict[str, str] = {}
    for pair in filter(None, (word.strip() for word in text.split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value) or name in found:
            raise ConfigError(
                f"{what}{pair!r} " + ("comes twice" if name in found else "is no name=value pair"),
                remedy="Write name=value, name=value, each name once.",
            )
        found[name] = value
    return found


class Fields:
    """A dataclass whose fields are described: checked as it is built, so never half right.

    Raises ConfigError. `called` is the word for one of its fields in an error.
    """

    __slots__ = ()
    called: ClassVar[str] = "setting"

    def __post_init__(self) -> None:
        for name, item in fields_of(type(self)).items():
            value = item.check(getattr(self, name), f"{self.called} {name}")
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, given: Mapping[str, object]) -> Self:
        """Built from values by name; ConfigError, with the nearest names, for one unknown."""
        return cls(**checked(fields_of(cls), given, cls.called))

    @classmethod
    def from_texts(cls, pairs: Mapping[str, str]) -> Self:
        """Built from texts by name, such as {"noise": "0.1"}. Raises ConfigError."""
        known = fields_of(cls)
        return cls(
            **{
                name: known[one_of(cls.called, name, known)].parse(text, f"{cls.called} {name}")
                for name, text in pairs.items()
            }
        )

    def to_dict(self) -> dict[str, Value]:
        """Every field as JSON has it, in the order of the class."""
        found = {name: getattr(self, name) for name in fields_of(type(self))}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}

    def spelled(self) -> str:
        """What is not at its default, as in "channels=3,noise=0.2", by name."""
        known = fields_of(type(self))
        values = {name: getattr(self, name) for name in sorted(known)}
        changed = {name: one for name, one in values.items() if one != known[name].default}
        return ",".join(f"{name}={spelled(value)}" for name, value in changed.items())
