"""A control of ipywidgets for each parameter of a chapter, from its schema."""

import math
from collections.abc import Callable
from typing import Any

import ipywidgets as ipw

from implreg_book.parameters.schema import Parameter, Value, in_figures, in_words, parse

_STEPS = (1, 2, 5)  # of each power of ten
_FEW = 100  # whole numbers that one slider has place for
_LAYOUT = {"width": "auto", "min_width": "20em"}


def control(chapter: str, one: Parameter) -> tuple[ipw.Widget, Callable[[], Value]]:
    """The control of a parameter, and what reads its value.

    What is read may be refused: a list is typed, as text with commas.
    """
    common: dict[str, Any] = {
        "description": one.name,
        "tooltip": one.sentence,
        "style": {"description_width": "11em"},
        "layout": _LAYOUT,
    }
    if one.type == "bool":
        made = ipw.Checkbox(value=one.default, **common)
    elif one.choices and one.several:
        made = ipw.SelectMultiple(
            options=one.choices, value=one.default, rows=len(one.choices), **common
        )
        return made, lambda: list(made.value)
    elif one.choices:
        made = ipw.Dropdown(options=one.choices, value=one.default, **common)
    elif one.several:
        made = ipw.Text(value=in_text(one.default), continuous_update=False, **common)
        return made, lambda: parse(chapter, one, f"[{made.value}]")
    elif one.of == "str":
        made = ipw.Text(value=one.default, continuous_update=False, **common)
    else:
        options = [(in_figures(x), x) for x in steps_of(one)]
        made = ipw.SelectionSlider(
            options=options, value=one.default, continuous_update=False, **common
        )
    return made, lambda: made.value


def put(widget: ipw.Widget, value: Value) -> None:
    """Set a control to a value; a slider that lacks it gets it."""
    if isinstance(widget, ipw.Text):
        widget.value = in_text(value) if isinstance(value, list) else str(value)
    elif isinstance(widget, ipw.SelectionSlider):
        options = dict(widget.options)
        if value not in options.values():
            rising = sorted([*options.values(), value])
            widget.options = [(in_figures(x), x) for x in rising]
        widget.value = value
    else:
        widget.value = value


def in_text(values: Value) -> str:
    """A list as one types it."""
    assert isinstance(values, list)
    return ", ".join(in_words(x).replace(",", "") for x in values)


def steps_of(one: Parameter) -> list[float]:
    """The values of a slider: all whole numbers of a short range, else 1, 2, 5, 10, ...

    The ends of the range and the default are always there.

    >>> steps_of(Parameter("n", "int", 30, "", low=1, high=1000))
    [1, 2, 5, 10, 20, 30, 50, 100, 200, 500, 1000]
    """
    assert one.low is not None and one.high is not None and not isinstance(one.default, list | str)
    kind = int if one.type == "int" else float
    if kind is int and one.high - one.low <= _FEW:
        return list(range(int(one.low), int(one.high) + 1))
    ends = [x for x in (one.low, one.high) if x > 0]
    powers = range(math.floor(math.log10(min(*ends, one.high / 1e6))), 12)
    if kind is float and one.low <= 0:
        powers = range(-3, 12)
    inside = {
        kind(float(f"{step}e{power}"))
        for power in powers
        for step in _STEPS
        if one.low <= float(f"{step}e{power}") <= one.high
    }
    return sorted(inside | {kind(one.low), kind(one.high), kind(one.default)})
