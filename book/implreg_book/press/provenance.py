"""Where a page comes from: what a run depends on, and what it ran with."""

import hashlib
import json
import platform
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from implreg_book.parameters.schema import Values
from implreg_book.press.chapters import CHAPTERS_PARAMETER, Chapter
from implreg_book.runs.dependencies import LIBRARIES, Sources, digest, versions
from implreg_book.runs.machine import commit, hardware
from implreg_book.settings import results_folder

# A new release of one of these can change a picture or a page; of LIBRARIES, a number.
PICTURES = ("matplotlib", "ipywidgets", "anywidget")

Inputs = dict[str, Any]


def run_inputs(
    chapter: Chapter, values: Values, upstream: Mapping[str, Any], sources: Sources
) -> Inputs:
    """Return all that the outputs of `chapter` depend on, as JSON can hold it.

    These are its code cells with their tags, the parameters that are set, the modules that it
    imports and whatever they import, the kept results of these, the versions of the libraries, and
    `upstream`: what it reads of other chapters. Prose is not among them.
    """
    cells = [cell for cell in chapter.notebook.cells if cell.cell_type == "code"]
    imported = sources.imported("\n".join(cell.source for cell in cells))
    modules = sources.hashes({*imported, *chapter.also_imports})
    return {
        "cells": [
            [cell.id, digest([cell.source, sorted(cell.metadata.get("tags", []))])[:16]]
            for cell in cells
        ],
        "values": {
            name: value
            for name, value in values.items()
            if not (chapter.reads_chapters and name == CHAPTERS_PARAMETER)
        },
        "upstream": dict(upstream),
        "modules": modules,
        "results": _results(modules),
        "versions": versions(LIBRARIES + PICTURES),
    }


def _results(modules: Collection[str]) -> dict[str, str]:
    """Return a hash of each file of results, see `implreg_book.runs.results`, of these modules."""
    folder = results_folder()
    files = sorted(folder.glob("*.parquet")) if folder is not None else []
    return {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in files
        if path.stem.rpartition(".")[0] in modules
    }


_PARAMETERS = ("parameter", "value", "meaning", "may be", "one more takes")


def describe_run(
    chapter: Chapter, values: Values, *, profile: str, inputs: Inputs, seconds: float
) -> dict[str, Any]:
    """Return what the executed notebook of `chapter` remembers in its metadata."""
    return {
        **chapter.notebook.metadata.get("implreg", {}),
        "profile": profile,
        "key": digest(inputs),
        "inputs": inputs,
        "commit": commit(Path()),
        "versions": versions(("implreg", *LIBRARIES, *PICTURES))
        | {"python": platform.python_version()},
        "hardware": hardware(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration": round(seconds, 1),
        "set": values,
        "parameters": {name: p.default for name, p in chapter.parameters.items()} | values,
    }


def section(chapter: Chapter, run: Mapping[str, Any]) -> str:
    """Return the page's last section in MyST markdown: how this page was made."""
    rows = {
        "profile": run["profile"],
        "commit": f"`{run['commit']}`",
        "date": run["date"],
        "duration": f"{run['duration']:g} s",
        "machine": machine(run),
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "run": f"`{run['key'][:16]}`",
    }
    parameters = [
        (f"`{p.name}`", f"`{run['parameters'][p.name]}`", p.help, p.range, chapter.cost_of(p.name))
        for p in chapter.parameters.values()
    ]
    return "\n".join(
        [
            f"({label(chapter)})=",
            "## Provenance",
            "",
            *table(("what", "value"), rows.items()),
            "",
            *(table(_PARAMETERS, parameters) if parameters else ()),
            "",
            "This command makes the same numbers and pictures again:",
            "",
            "```bash",
            papermill_command(chapter, run["set"]),
            "```",
        ]
    )


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a table in MyST markdown."""
    every = (head, ["---"] * len(head), *rows)
    cells = [[str(x).replace("|", "\\|").replace("\n", " ") for x in row] for row in every]
    return [f"| {' | '.join(row)} |" for row in cells]


def machine(run: Mapping[str, Any]) -> str:
    """Return in words on what machine a chapter ran."""
    told = run["hardware"]
    return f"{told['cpu']}, {told['cores']} cores, {told['memory']}"


def label(chapter: Chapter) -> str:
    """Return the label of the chapter's provenance section, for links to it."""
    return f"run-{chapter.name}"


def code_label(figure: str) -> str:
    """Return the label of the place before the code of a figure, for links to it."""
    return f"code-{figure}"


def papermill_command(chapter: Chapter, values: Values) -> str:
    """Return the command line of papermill that runs `chapter` with `values`."""
    words = ["papermill", f"{chapter.source.parent.name}/{chapter.source.name}", "out.ipynb"]
    for name, value in values.items():
        if isinstance(value, list):
            words += ["-y", json.dumps({name: value})]
        else:
            words += ["-r" if isinstance(value, str) else "-p", name, str(value)]
    return shlex.join(words)
