"""Which chapter has which schema."""

from importlib import import_module
from pathlib import Path

from implreg_book.parameters.schema import Parameters


def find(chapter: str) -> type[Parameters] | None:
    """The schema of the chapter with this name, None if it has none of its own.

    >>> find("width").schema()["seeds"].default
    20
    """
    module = chapter.replace("-", "_")
    if not (module.isidentifier() and Path(__file__).with_name(f"{module}.py").is_file()):
        return None
    found = getattr(import_module(f"implreg_book.parameters.{module}"), "Parameters", None)
    return found if isinstance(found, type) and getattr(found, "chapter", "") == chapter else None
