"""Where a page comes from: the key that says what a run depends on, and what it ran with."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from implreg.book.chapters import CHAPTERS_PARAMETER, Chapter, Value, Values
from implreg.runs import code_version

# A new release of one of these can change a number or a picture on a page.
LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "matplotlib",
    "mnist1d",
    "ipywidgets",
    "anywidget",
)


def run_key(chapter: Chapter, values: Values, upstream: Mapping[str, str]) -> str:
    """Return the hash of all that the outputs of `chapter` depend on.

    These are its code cells with their tags, its parameters, the package without the pipeline
    (code and data), the versions of the libraries, and `upstream`: what it reads of other
    chapters. Prose is not among them.
    """
    content = {
        "code": [
            (cell.id, cell.source, sorted(cell.metadata.get("tags", [])))
            for cell in chapter.notebook.cells
            if cell.cell_type == "code"
        ],
        "values": {k: v for k, v in values.items() if k != CHAPTERS_PARAMETER or not upstream},
        "upstream": dict(upstream),
        "package": code_version(),
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python (without patch level) and of the libraries in use."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe_run(
    chapter: Chapter, values: Values, *, root: Path, profile: str, key: str, seconds: float
) -> dict[str, Any]:
    """Return what the executed notebook of `chapter` remembers in its metadata."""
    return {
        **chapter.notebook.metadata.get("implreg", {}),
        "profile": profile,
        "key": key,
        "commit": _commit(root),
        "versions": {
            "implreg": _own_version(),
            **versions(),
            "python": platform.python_version(),
        },
        "hardware": _hardware(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration": round(seconds, 1),
        "set": values,
        "parameters": {name: p.default for name, p in chapter.parameters.items()} | values,
    }


def section(chapter: Chapter, run: Mapping[str, Any]) -> str:
    """Return the page's last section in MyST markdown: how this page was made."""
    machine = run["hardware"]
    rows = {
        "profile": run["profile"],
        "commit": f"`{run['commit']}`",
        "date": run["date"],
        "duration": f"{run['duration']:g} s",
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}",
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "run": f"`{run['key'][:16]}`",
    }
    parameters = ["| parameter | value | meaning |", "|---|---|---|"] * bool(chapter.parameters)
    parameters += [
        f"| `{p.name}` | `{_cell(run['parameters'][p.name])}` | {_cell(p.help)} |"
        for p in chapter.parameters.values()
    ]
    return "\n".join(
        [
            f"({label(chapter)})=",
            "## Provenance",
            "",
            "| what | value |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in rows.items()),
            "",
            *parameters,
            "",
            "This command makes the same numbers and pictures again:",
            "",
            "```bash",
            papermill_command(chapter, run["set"]),
            "```",
        ]
    )


def label(chapter: Chapter) -> str:
    """Return the label of the chapter's provenance section, for links to it."""
    return f"run-{chapter.name}"


def papermill_command(chapter: Chapter, values: Values) -> str:
    """Return the command line of papermill that runs `chapter` with `values`."""
    words = ["papermill", f"{chapter.source.parent.name}/{chapter.source.name}", "out.ipynb"]
    for name, value in values.items():
        words += _papermill_option(name, value)
    return shlex.join(words)


def _papermill_option(name: str, value: Value) -> list[str]:
    if isinstance(value, list):
        return ["-y", json.dumps({name: value})]
    return ["-r" if isinstance(value, str) else "-p", name, str(value)]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _commit(root: Path) -> str:
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _own_version() -> str:
    try:
        return importlib.metadata.version("implreg")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _hardware() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
    }
