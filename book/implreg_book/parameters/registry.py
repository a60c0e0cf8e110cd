"""Which chapter has which schema, and what the profiles of the book set in it."""

from functools import cache
from importlib import import_module
from pathlib import Path

import yaml

from implreg_book.parameters.schema import Parameters, Values

DEFAULT_PROFILE = "default"
_PROFILES = Path(__file__).parents[2] / "profiles.yml"


def module_name(chapter: str) -> str:
    """What the modules of a chapter are called.

    >>> module_name("where-it-fails")
    'where_it_fails'
    """
    return chapter.replace("-", "_")


def find(chapter: str) -> type[Parameters] | None:
    """The schema of the chapter with this name, None if it has none of its own.

    >>> find("width").schema()["seeds"].default
    20
    """
    module = module_name(chapter)
    if not (module.isidentifier() and Path(__file__).with_name(f"{module}.py").is_file()):
        return None
    found = getattr(import_module(f"implreg_book.parameters.{module}"), "Parameters", None)
    return found if isinstance(found, type) and getattr(found, "chapter", "") == chapter else None


@cache
def profiles(chapter: str) -> dict[str, Values]:
    """What each profile of the book sets in a chapter, where that is not its default."""
    schema = find(chapter)
    assert schema is not None, f"chapter {chapter} has no schema"
    every = yaml.safe_load(_PROFILES.read_text(encoding="utf-8"))
    return {DEFAULT_PROFILE: {}} | {
        name: schema.of(chapters.get(chapter, {})).changed() for name, chapters in every.items()
    }


def profile_of(parameters: Parameters) -> str | None:
    """The first profile with these parameters, None if they are a user's own.

    >>> profile_of(find("width")())
    'default'
    """
    changed = parameters.changed()
    every = profiles(parameters.chapter).items()
    return next((name for name, values in every if values == changed), None)
