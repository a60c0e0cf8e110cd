"""Which chapters must run, and why: each is compared with its runs that are kept from before."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from implreg.book.chapters import CHAPTERS_PARAMETER, Book, Chapter, Values
from implreg.book.provenance import Inputs, digest, run_inputs
from implreg.book.why import run_changes
from implreg.dependencies import Root, Sources

Run = dict[str, Any]  # what an executed notebook remembers, from `describe_run`


@dataclass(frozen=True)
class Step:
    """What is to be done for one chapter.

    Attributes:
        chapter: the chapter.
        values: the parameters to set.
        inputs: all that its run depends on.
        file: where its run is kept, or will be.
        kept: the run that is kept there, None if the chapter must run.
        reasons: why it must run, in plain words; empty if it need not.
        borrowed: kept runs of chapters that it reads and that are not to be done themselves.
    """

    chapter: Chapter
    values: Values
    inputs: Inputs
    file: Path
    kept: Run | None
    reasons: list[str]
    borrowed: tuple["Step", ...] = ()


def plan(
    book: Book,
    chosen: Sequence[Chapter],
    *,
    build: Path,
    profile: str,
    values: dict[str, Values],
    force: bool,
) -> Iterator[Step]:
    """Yield what is to be done for the `chosen` chapters, those that read others last.

    A step is worked out when it is asked for, so that it knows the code of that time. Nothing is
    written. With `force`, every chapter must run.
    """
    sources = Sources(Root(book.root))
    chapters: dict[str, Step] = {}
    running: list[str] = []

    def step(chapter: Chapter, own: Values, upstream: Mapping[str, Any]) -> Step:
        inputs = run_inputs(chapter, own, upstream, sources)
        key = digest(inputs)
        file = build / "cache" / chapter.name / f"{key[:32]}.ipynb"
        kept = described(file)
        if kept is not None and kept["key"] == key:
            return Step(chapter, own, inputs, file, kept | {"profile": profile}, [])
        if file.exists():
            reasons = ["its kept run is damaged"]
        else:
            reasons = _reasons(chapter, inputs, file.parent, profile, running)
        return Step(chapter, own, inputs, file, None, reasons)

    for chapter in sorted(chosen, key=lambda chapter: chapter.reads_chapters):
        own, upstream, borrowed = values[chapter.name], {}, {}
        if chapter.reads_chapters:
            for other in book.chapters.values():
                if other not in chosen and not other.reads_chapters:
                    found = step(other, book.values(other, profile, {}), {})
                    if found.kept is not None:
                        borrowed[other.name] = found
            keys = {name: digest(read.inputs) for name, read in (borrowed | chapters).items()}
            upstream = {"profile": profile, "chapters": keys}
            executed = os.path.relpath(build / "executed", book.root)
            own = own | {CHAPTERS_PARAMETER: executed}
        one = replace(step(chapter, own, upstream), borrowed=tuple(borrowed.values()))
        if force:
            one = replace(one, kept=None, reasons=["--force was given"])
        if one.kept is None:
            running.append(chapter.name)
        chapters[chapter.name] = one
        yield one


def described(notebook: Path) -> Run | None:
    """Return what an executed notebook remembers of its run, None if it is damaged or not there."""
    try:
        run: Run = json.loads(notebook.read_bytes())["metadata"]["implreg"]
        return run if run["key"] == digest(run["inputs"]) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        return None


def kept_files(folder: Path) -> list[Path]:
    """Return the kept runs of a chapter, the one used last first."""
    return sorted(folder.glob("*.ipynb"), key=lambda path: path.stat().st_mtime, reverse=True)


def _reasons(
    chapter: Chapter, inputs: Inputs, folder: Path, profile: str, running: Sequence[str]
) -> list[str]:
    runs = [
        run
        for path in kept_files(folder)
        if (run := described(path)) and run["inputs"].keys() == inputs.keys()
    ]
    if not runs:
        return ["it has no kept run to compare with"]
    same = [run for run in runs if run["inputs"]["values"] == inputs["values"]]
    if not same and runs[0]["profile"] != profile:
        return [f"it never ran with the parameters of profile {profile}"]
    return run_changes(chapter, inputs, (same or runs)[0], running)
