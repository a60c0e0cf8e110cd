"""A chapter tried under other parameters, without a kernel: what it says, draws and judges."""

import json
import math
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import yaml
from implreg_book.evidence.claims import Verdict
from implreg_book.parameters import find
from implreg_book.parameters.registry import module_name
from implreg_book.runs import grid
from implreg_book.runs.workers import Workers
from matplotlib import figure as mpl_figure

ROOT = Path(__file__).resolve().parents[1]
PROFILES = yaml.safe_load((ROOT / "book" / "profiles.yml").read_text("utf-8"))
_GLUE = re.compile(r"\{glue:(?:text)?\}`([\w.-]+)(?::[^`]*)?`")
# What no reader may see: numbers that are none, names of Python, markup that nobody has rendered.
_RAW = re.compile(r"\b(?:nan|NaN|None|inf|NaT|True|False)\b|[{}]|\*\*|<[a-z/]|\bEstimate\(|array\(")


def _blank(_: object, file: Any, **options: Any) -> None:
    """A picture of nothing."""
    file.write(b"" if options["format"] == "png" else "<svg></svg>")


def module_of(chapter: str) -> Any:
    """The module of a chapter."""
    return import_module(f"implreg_book.chapters.{module_name(chapter)}")


def found_with(chapter: str, **values: Any) -> Any:
    """What the runs of a chapter find with the profile smoke and some other parameters.

    They run in this process: others would take longer to start than the runs take.
    """
    schema = find(chapter)
    with patch.object(grid, "_workers", lambda *_, **__: Workers(ThreadPoolExecutor(1))):
        return module_of(chapter).measure(schema.of(PROFILES["smoke"].get(chapter, {}) | values))


def told(chapter: str, found: Any) -> dict[str, str]:
    """The numbers and words of a chapter, all of them fit to be read, and its pictures drawn.

    Figures and tables are made, and verdicts read, so that none of them fails.
    """
    module = module_of(chapter)
    numbers = {name: str(value) for name, value in module.numbers(found).items()}
    for name, text in numbers.items():
        assert not _RAW.search(text), f"{name}: {text}"
    for draw in getattr(module, "FIGURES", {}).values():
        # Rendering takes most of the time, and the tests of the site render all figures.
        with patch.object(mpl_figure.Figure, "savefig", _blank):
            alt = draw(found).alt
        assert alt.strip() and not _RAW.search(alt), alt
    for make in getattr(module, "TABLES", {}).values():
        made = make(found)
        shown = made.data if hasattr(made, "data") else made
        assert len(shown)
        for text in shown.map(str).to_numpy().ravel() if isinstance(shown, pd.DataFrame) else ():
            assert not _RAW.search(text), text
    for verdict in module.verdicts(found).values():
        assert isinstance(verdict, Verdict)
        read = verdict._repr_mimebundle_()["text/plain"]
        assert not re.search(r"\bnan\b|\binf\b|None", read), read
        assert verdict.effect.n == 0 or math.isfinite(verdict.effect.value)
    return numbers


def glued_in_prose(chapter: str) -> set[str]:
    """Names of what the prose of a chapter takes from its numbers."""
    notebook = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text("utf-8"))
    prose = "\n".join(
        "".join(cell["source"]) + json.dumps(cell["metadata"].get("mystnb", {}))
        for cell in notebook["cells"]
    )
    return {name.removeprefix(f"{chapter}-") for name in _GLUE.findall(prose)}


def check_prose(chapter: str, numbers: Mapping[str, str]) -> None:
    """The prose takes what is there, and nothing is computed for nobody."""
    assert glued_in_prose(chapter) == set(numbers)
