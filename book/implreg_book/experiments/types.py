"""Types of the fields of a configuration: each names a range, which is checked."""

import math
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from implreg.checks import check_choice, check_count, check_number, check_share
from implreg.errors import InputError


class Checked:
    """A configuration; values out of the ranges that the types of its fields name are refused.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Config(Checked):
    ...     sizes: tuple[Count, ...]
    >>> Config((3, 0))
    Traceback (most recent call last):
    implreg.errors.InputError: sizes must be a whole number of at least 1, ...
    """

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            _check(name, kind, getattr(self, name))


def _check(name: str, kind: Any, value: Any) -> None:
    """Check a value, and the entries of a tuple, against an annotated type."""
    kind, *checks = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if get_origin(kind) is tuple:
        for entry in value:
            _check(name, get_args(kind)[0], entry)
    for check in checks:
        check(name, value)


def among(*choices: str) -> Any:
    """The check of one of some words."""
    return partial(check_choice, choices=choices)


def below(end: float, words: str) -> Any:
    """The check of a number between 0 and `end`, both excluded; `words`: what the end is."""

    def check(name: str, value: object) -> None:
        if check_number(name, value, above=0) >= end:
            raise InputError(
                f"{name} must lie between 0 and {words}, got {value!r}; choose such a number."
            )

    return check


def distinct(name: str, values: tuple[object, ...]) -> None:
    """Refuse no values at all, and one that is there twice."""
    if not values or len(set(values)) < len(values):
        raise InputError(
            f"{name} must be one or more, none twice, got {list(values)}; list them once."
        )


Count = Annotated[int, check_count]  # 1 or more
Index = Annotated[int, partial(check_count, at_least=0)]  # such as a seed
Many = Annotated[int, partial(check_count, at_least=2)]
Positive = Annotated[float, partial(check_number, above=0)]
NotNegative = Annotated[float, partial(check_number, at_least=0)]
Share = Annotated[float, check_share]  # from 0 to 1
Part = Annotated[float, partial(check_share, whole=False)]  # a share below 1
Angle = Annotated[float, below(math.pi, "pi (radians)")]  # between two samples
Seeds = Annotated[tuple[Index, ...], distinct]
