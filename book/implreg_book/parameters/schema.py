"""What a parameter of a chapter may be: type, range, choices, unit, cost and one sentence."""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

import yaml

from implreg.errors import InputError

Value = int | float | str | bool | list[int] | list[float] | list[str]
Values = dict[str, Value]
T = TypeVar("T")

PLAIN = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,)}
TYPES = (*PLAIN, "list[int]", "list[float]", "list[str]")
_WORDS = {"int": "whole number", "float": "number"}
_LINE = 100  # characters of a line in a parameter cell
_SHOWN = 60  # characters of a refused value
_MANY = 9  # entries of a list that are all named


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter.

    Attributes:
        name: as in the cell of parameters.
        type: one of `TYPES`.
        default: the book's own value.
        help: what it is, in one phrase.
        unit: what it counts or is measured in, in the plural; "" for a pure number or a name.
        low: the least that it, or each entry of a list, may be; None for no bound.
        high: the most.
        choices: the words that it, or each entry of a list, may be; () if it is no word.
        least: entries that a list must have.
        most: entries that it may have; 0 for no bound.
        order: of the entries of a list: "distinct", "rising", "falling" or "" for any.
        share: of the chapter's time that grows in proportion to it, from 0 to 1.
    """

    name: str
    type: str
    default: Value
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int = 0
    order: str = ""
    share: float = 0.0

    @property
    def several(self) -> bool:
        """Whether it is a list."""
        return self.type.startswith("list[")

    @property
    def of(self) -> str:
        """The type of it, or of each entry of a list."""
        return self.type.removeprefix("list[").removesuffix("]")

    @property
    def range(self) -> str:
        """What it may be, in words, without its type; "" if that alone says it.

        >>> Parameter("n", "list[int]", [1, 2], "sizes", low=1, high=9000, order="rising").range
        '1 or more from 1 to 9,000, rising'
        """
        one = listed(self.choices, "or")
        if self.low is not None and self.high is not None:
            one = f"from {in_figures(self.low)} to {in_figures(self.high)}"
        if not self.several:
            return one
        order = {"": "", "distinct": ", none twice"}.get(self.order, f", {self.order}")
        few = f"{self.least} to {self.most}" if self.most else f"{self.least} or more"
        return f"{few} {'of ' * bool(self.choices)}{one}".strip() + order

    @property
    def sentence(self) -> str:
        """Help, and what is allowed."""
        return f"{self.help}; {self.range}" if self.range else self.help

    @property
    def line(self) -> str:
        """Its line in the cell of parameters; what is allowed is left out if it is too long."""
        default = repr(self.default).replace("'", '"')
        lines = [
            f"{self.name}: {self.type} = {default}  # {text}" for text in (self.sentence, self.help)
        ]
        return lines[0] if len(lines[0]) <= _LINE else lines[1]

    def size(self, value: Value) -> float:
        """By how much of it the time grows: entries of a list, or a number itself."""
        return float(len(value)) if isinstance(value, list) else float(value)

    def typed(self, chapter: str, value: object) -> Value:
        """Return `value` as its type, if it is allowed.

        Raises:
            InputError: it is not.
        """
        if "float" in self.type:
            value = _number(value)
        if not fits(self.type, value):
            raise self.refused(chapter, f"must be of type {self.type}", value)
        entries = value if isinstance(value, list) else [value]
        inside = all(self._allows(entry) for entry in entries)
        many = self.least <= len(entries) <= (self.most or len(entries))
        if not (inside and many and self._ordered(entries)):
            raise self.refused(chapter, f"must be {self._rule}", value)
        return value  # type: ignore[return-value]

    def refused(self, chapter: str, rule: str, value: object) -> InputError:
        """The error that says what it must be, what came and what to pass."""
        got = repr(value)
        got = got if len(got) <= _SHOWN else f"{got[: _SHOWN - 1]}…"
        hint = f"pass a value such as {self.default!r}."
        if self.several and fits(self.type, [value]):
            hint = f"pass a list, such as {[value]!r}."
        elif close := difflib.get_close_matches(str(value), self.choices, 1):
            hint = f"did you mean {close[0]}?"
        return InputError(f"parameter {self.name} of chapter {chapter} {rule}, got {got}; {hint}")

    @property
    def _rule(self) -> str:
        """What it must be, in words."""
        if self.choices and not self.several:
            return f"one of {', '.join(self.choices)}"
        kind = "" if self.choices else _WORDS[self.of]
        if not self.several:
            return f"a {kind} {self.range}"
        return re.sub("(?= from|,|$)", f" {kind}s" if kind else "", self.range, count=1)

    def _allows(self, entry: Any) -> bool:
        if self.choices:
            return entry in self.choices
        return (self.low is None or entry >= self.low) and (self.high is None or entry <= self.high)

    def _ordered(self, entries: Sequence[Any]) -> bool:
        if self.order in ("rising", "falling"):
            up = entries if self.order == "rising" else entries[::-1]
            return all(a < b for a, b in pairwise(up))
        return self.order != "distinct" or len(set(entries)) == len(entries)


def parameter(default: Any, help: str, **rules: Any) -> Any:
    """A field of `Parameters`; `rules` are further attributes of its `Parameter`."""
    return field(default=default, metadata={"help": help} | rules)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The parameters of one chapter, checked: each subclass has a field for each.

    Attributes:
        chapter: whose they are.
        seconds: CPU seconds that the chapter takes with its defaults and without stored results.

    Raises:
        InputError: one is not what it may be, or two do not go together.
    """

    chapter: ClassVar[str]
    seconds: ClassVar[float]

    @classmethod
    @cache
    def schema(cls) -> dict[str, Parameter]:
        """What each may be, by name, in the order of the cell."""
        types = get_type_hints(cls)
        return {
            f.name: Parameter(f.name, _type_name(types[f.name]), _listed(f.default), **f.metadata)
            for f in fields(cls)
        }

    @classmethod
    def cell(cls) -> str:
        """The source of the chapter's cell of parameters."""
        return "\n".join(one.line for one in cls.schema().values())

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The parameters with some `values`, as a notebook or a file gives them."""
        for name in values:
            named(f"parameter of chapter {cls.chapter}", name, cls.schema())
        return cls(**values)

    def __post_init__(self) -> None:
        for name, one in self.schema().items():
            value = one.typed(self.chapter, _listed(getattr(self, name)))
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        self.together()

    def together(self) -> None:
        """Raise `InputError` if parameters do not go together."""

    def require(self, name: str, fits: bool, rule: str) -> None:
        """Raise `InputError`, unless the parameter `name` fits the others; `rule` says to what."""
        if not fits:
            one = self.schema()[name]
            raise InputError(
                f"parameter {name} of chapter {self.chapter} must {rule}, got "
                f"{_listed(getattr(self, name))!r}; change one of them, the default is "
                f"{one.default!r}."
            )

    def values(self) -> Values:
        """All of them, by name, as a notebook has them."""
        return {name: _listed(getattr(self, name)) for name in self.schema()}

    def changed(self) -> Values:
        """Those that are not the book's own."""
        schema = self.schema()
        return {name: x for name, x in self.values().items() if x != schema[name].default}

    def cost(self) -> float:
        r"""CPU seconds that the chapter takes without stored results, roughly.

        With :math:`T` seconds at the defaults and, of each parameter, the share :math:`s` that
        grows in proportion to its size :math:`x`, :math:`T \prod (1 - s + s\, x / x_0)`.
        """
        seconds = self.seconds
        for name, one in self.schema().items():
            if one.share:
                more = one.size(_listed(getattr(self, name))) / one.size(one.default)
                seconds *= 1 - one.share + one.share * more
        return seconds

    @classmethod
    def unit_cost(cls, name: str) -> float:
        """CPU seconds that one more of a parameter costs, all others at their defaults."""
        one = cls.schema()[name]
        return cls.seconds * one.share / one.size(one.default) if one.share else 0.0


def parse(chapter: str, one: Parameter, text: str) -> Value:
    """Return the value that a user typed as `text`."""
    value: object = text
    with suppress(yaml.YAMLError):
        value = yaml.safe_load(text)
    if one.type == "str" and not isinstance(value, str):
        value = text
    return one.typed(chapter, value)


def parse_several(chapter: str, one: Parameter, text: str) -> list[Value]:
    """Return the values that a user typed with commas between them, whole numbers also as ``0:10``.

    A range ends before its last number, as Python's do, and may have a third number, its step.
    """
    loader = yaml.BaseLoader if one.of == "str" else yaml.SafeLoader
    if one.type == "int":
        text = ",".join(map(_counted, text.split(",")))
    try:
        values = yaml.load(f"[{text}]", loader)
    except yaml.YAMLError as error:
        raise InputError(
            f"parameter {one.name} of chapter {chapter} must have values with commas between "
            f"them, got {text!r}; pass such as {one.default!r},{one.default!r}."
        ) from error
    if not values:
        raise InputError(
            f"parameter {one.name} of chapter {chapter} must have at least one value, got "
            f"{text!r}; name some."
        )
    return [one.typed(chapter, value) for value in values]


def named(what: str, name: str, among: Mapping[str, T]) -> T:
    """Return the thing called `name`, else raise `InputError` with what there is."""
    if name in among:
        return among[name]
    close = difflib.get_close_matches(name, among, n=1)
    hint = f"did you mean {close[0]}?" if close else "choose one of them."
    raise InputError(
        f"there is no {what} {name!r}, only {', '.join(among) or 'none at all'}; {hint}"
    )


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words with commas, and a word before the last.

    >>> listed(["same", "different", "random"], "or")
    'same, different or random'
    """
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def in_words(value: Value) -> str:
    """A value as one writes it, long lists shortened.

    >>> in_words([0.5, 1.0]), in_words("digits"), in_words(list(range(99)))
    ('0.5, 1', 'digits', '0, 1, 2, ..., 98')
    """
    if not isinstance(value, list):
        return value if isinstance(value, str) else in_figures(value)
    words = [in_words(entry) for entry in value]
    return ", ".join(words if len(words) <= _MANY else [*words[:3], "...", words[-1]])


def in_time(seconds: float) -> str:
    """A time of computing as one says it, roughly.

    >>> in_time(0.004), in_time(42), in_time(4200), in_time(1e6)
    ('0.004 s', '42 s', '70 min', '280 h')
    """
    if seconds < 10:
        return f"{seconds:.1g} s"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{in_figures(float(f'{seconds / length:.2g}'))} {unit}"
    return f"{seconds:.0f} s"


def in_figures(number: float) -> str:
    """A bound as one writes it.

    >>> in_figures(1e-6), in_figures(65536)
    ('1e-6', '65,536')
    """
    return re.sub(r"e([+-]?)0*", r"e\1", f"{number:,.12g}")


def _type_name(kind: Any) -> str:
    """The name of a field's type in a notebook, where lists stand for tuples."""
    inner = getattr(kind, "__args__", None)
    return f"list[{inner[0].__name__}]" if inner else str(kind.__name__)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _counted(text: str) -> str:
    """Return ``0:3`` as ``0,1,2``, and anything but a range of whole numbers as it is."""
    if not re.fullmatch(r"\s*-?\d+:-?\d+(:-?[1-9]\d*)?\s*", text):
        return text
    return ",".join(map(str, range(*map(int, text.split(":")))))


def _number(value: object) -> object:
    """Return whole numbers, and 1e-3 that YAML takes for text, as numbers with a point."""
    if isinstance(value, list):
        return [_number(entry) for entry in value]
    if type(value) in (str, int):
        with suppress(ValueError, OverflowError):
            return float(value)  # type: ignore[arg-type]
    return value


def fits(kind: str, value: object) -> bool:
    """Whether a value is of one of `TYPES`, numbers finite."""
    if kind.startswith("list["):
        inner = kind.removeprefix("list[").removesuffix("]")
        return isinstance(value, list) and all(fits(inner, entry) for entry in value)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return type(value) in PLAIN[kind]
