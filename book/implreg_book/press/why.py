"""What differs between two sets of inputs, in plain words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from implreg_book.parameters.schema import Values
from implreg_book.press.chapters import Chapter
from implreg_book.press.provenance import Inputs

FEW = 3  # names in a sentence
LONG = 40  # characters of a value


def listed(names: Iterable[str]) -> str:
    """Return `names`, of which there is at least one, as ``a, b and c`` or ``a, b, c and 5 more``.

    >>> listed("ab"), listed("abcde")
    ('a and b', 'a, b, c and 2 more')
    """
    every = list(names)
    *first, last = every if len(every) <= FEW else [*every[:FEW], f"{len(every) - FEW} more"]
    return f"{', '.join(first)} and {last}" if first else last


def changes(old: Mapping[str, Any], new: Mapping[str, Any], noun: str = "") -> list[str]:
    """Return which of `new`, a hash for each name, changed, came and went since `old`.

    >>> changes({"a": 1, "b": 1, "d": 1}, {"a": 2, "b": 2, "c": 1}, "cell")
    ['cells a and b changed', 'cell c is new', 'cell d is gone']
    """
    groups = (
        ([name for name in new if name in old and new[name] != old[name]], "changed", "changed"),
        ([name for name in new if name not in old], "is new", "are new"),
        ([name for name in old if name not in new], "is gone", "are gone"),
    )
    return [
        f"{noun}{'s' * (noun != '' and len(names) > 1)} {listed(names)} "
        f"{many if len(names) > 1 else one}".strip()
        for names, one, many in groups
        if names
    ]


def other_versions(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return ``torch 2.13.0 instead of 2.12.0`` for each library with another version."""
    return [
        f"{name} {new.get(name, 'none')} instead of {old.get(name, 'none')}"
        for name in {**old, **new}
        if new.get(name) != old.get(name)
    ]


def run_changes(
    chapter: Chapter, inputs: Inputs, run: Mapping[str, Any], running: Sequence[str]
) -> list[str]:
    """Return in what the `inputs` of `chapter` differ from those of an earlier `run` of it.

    Args:
        chapter: as it is now.
        inputs: of the run that is to come.
        run: what the earlier run remembers, from `describe_run`.
        running: chapters that will run before this one.
    """
    old = run["inputs"]
    before, now = dict(old["cells"]), dict(inputs["cells"])
    cells = changes(before, now, "cell")
    if before.keys() == now.keys() and list(before) != list(now):
        cells.append("the order of its cells changed")
    return [
        *_parameters(chapter, inputs["values"], old["values"], run["parameters"]),
        *cells,
        *input_changes(old, inputs),
        *_upstream(old["upstream"], inputs["upstream"], running),
    ]


def input_changes(old: Inputs, new: Inputs) -> list[str]:
    """Return what changed of code, stored results and libraries, but not of the chapter itself."""
    return [
        *changes(old["modules"], new["modules"]),
        *changes(old["results"], new["results"], "kept result"),
        *other_versions(old["versions"], new["versions"]),
    ]


def _parameters(chapter: Chapter, new: Values, old: Values, before: Mapping[str, Any]) -> list[str]:
    now = {name: p.default for name, p in chapter.parameters.items()} | new
    texts = [
        f"{name} is {_short(now.get(name))} instead of {_short(before.get(name))}"
        if now.get(name) != before.get(name)
        else f"{name} is {'set to' if name in new else 'left at'} its default"
        for name in {**new, **old}
        if name not in new or name not in old or new[name] != old[name]
    ]
    return [f"parameter{'s' * (len(texts) > 1)} {listed(texts)}"] if texts else []


def _upstream(old: Mapping[str, Any], new: Mapping[str, Any], running: Sequence[str]) -> list[str]:
    before, now = old.get("chapters", {}), new.get("chapters", {})
    run = [name for name in running if now.get(name) != before.get(name)]
    texts = [f"it reads {listed(run)}, which will run"] if run else []
    others = {k: v for k, v in now.items() if k not in run}
    others_before = {k: v for k, v in before.items() if k not in run}
    texts += [f"of what it reads, {text}" for text in changes(others_before, others)]
    if old.get("profile") != new.get("profile"):
        texts.append(f"profile {new.get('profile')} instead of {old.get('profile')}")
    return texts


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."
