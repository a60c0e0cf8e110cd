"""Which chapters must run, and why: each is compared with its runs that are kept from before."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat

from implreg_book.parameters.registry import DEFAULT_PROFILE
from implreg_book.parameters.schema import Values
from implreg_book.press.address import Address
from implreg_book.press.chapters import CHAPTERS_PARAMETER, Book, Chapter
from implreg_book.press.provenance import Inputs, run_inputs
from implreg_book.press.why import run_changes
from implreg_book.runs.dependencies import Root, Sources, digest
from implreg_book.runs.store import Damaged, Entry, Store
from implreg_book.settings import STORE

Run = dict[str, Any]  # what an executed notebook remembers, from `describe_run`


@dataclass(frozen=True)
class Task:
    """What is to be made of a book, and where.

    Attributes:
        book: all chapters and pages.
        chosen: the chapters to make.
        build: folder of all results.
        profile: that the values are from.
        values: the parameters to set, by chapter.
        address: of project and site on the web.
        preview: whether the site has only the chosen chapters, and a folder of its own.
        force: whether what is kept from before does not count.
    """

    book: Book
    chosen: Sequence[Chapter]
    build: Path
    profile: str = DEFAULT_PROFILE
    values: Mapping[str, Values] = field(default_factory=dict)
    address: Address = field(default_factory=Address)
    preview: bool = False
    force: bool = False

    @property
    def executed(self) -> Path:
        """Folder in which chapters that read others find them."""
        return self.build / "executed"

    @property
    def site(self) -> Path:
        """Folder of the site, or of the preview."""
        return (self.build / "preview" if self.preview else self.build) / "html"


@dataclass(frozen=True)
class Step:
    """What is to be done for one chapter.

    Attributes:
        chapter: the chapter.
        values: the parameters to set.
        inputs: all that its run depends on.
        text: its executed notebook, as it is kept; None if the chapter must run.
        kept: the run that this notebook remembers.
        reasons: why it must run, in plain words; empty if it need not.
        borrowed: kept runs of chapters that it reads and that are not to be done themselves.
    """

    chapter: Chapter
    values: Values
    inputs: Inputs
    text: str | None
    kept: Run | None
    reasons: list[str]
    borrowed: tuple["Step", ...] = ()

    @property
    def key(self) -> str:
        """The key of the run."""
        return digest(self.inputs)[:32]


def store_of(build: Path) -> Store:
    """Return where the runs of chapters are kept: with all others, by default in ``build/runs``."""
    return Store(os.environ.get(STORE) or build / "runs")


def experiment_of(chapter: str) -> str:
    """Return what the runs of a chapter are called in the store."""
    return f"chapter.{chapter}"


def plan(task: Task) -> Iterator[Step]:
    """Yield what is to be done for the chosen chapters, those that read others last.

    A step is worked out when it is asked for, so that it knows the code of that time. Nothing is
    written.
    """
    book, profile, store = task.book, task.profile, store_of(task.build)
    sources = Sources(Root(book.root))
    done: dict[str, Step] = {}
    running: list[str] = []
    for chapter in sorted(task.chosen, key=lambda chapter: chapter.reads_chapters):
        own, upstream, borrowed = task.values.get(chapter.name, {}), {}, {}
        if chapter.reads_chapters:
            for other in book.chapters.values():
                if other not in task.chosen and not other.reads_chapters:
                    found = find(store, other, book.values(other, profile, {}), {}, sources)
                    if found.kept is not None:
                        borrowed[other.name] = found
            keys = {name: digest(read.inputs) for name, read in (borrowed | done).items()}
            upstream = {"profile": profile, "chapters": keys}
            own = own | {CHAPTERS_PARAMETER: os.path.relpath(task.executed, book.root)}
        step = find(store, chapter, own, upstream, sources, profile=profile, running=running)
        step = replace(step, borrowed=tuple(borrowed.values()))
        if task.force:
            step = replace(step, text=None, kept=None, reasons=["--force was given"])
        if step.kept is None:
            running.append(chapter.name)
        done[chapter.name] = step
        yield step


def find(
    store: Store,
    chapter: Chapter,
    values: Values,
    upstream: Mapping[str, Any],
    sources: Sources,
    *,
    profile: str = "",
    running: Sequence[str] = (),
) -> Step:
    """Return what is to be done for a chapter: nothing if its run is kept, else why it must run."""
    inputs = run_inputs(chapter, values, upstream, sources)
    key = digest(inputs)
    entries = store.entries(experiment_of(chapter.name))
    damaged = False
    for _, content in store.read(entry for entry in entries if key.startswith(entry.key)):
        run = _described(content)
        if isinstance(content, Damaged) or run is None:
            damaged = True
        elif run["key"] == key:
            text, kept = content.decode(), run | {"profile": profile or run["profile"]}
            if kept != run:
                notebook = nbformat.from_dict(json.loads(content))
                notebook.metadata["implreg"] = kept
                text = nbformat.writes(notebook)
            return Step(chapter, values, inputs, text, kept, [])
    reasons = ["its kept run is damaged"]
    if not damaged:
        reasons = _reasons(chapter, inputs, _runs(store, entries), profile, running)
    return Step(chapter, values, inputs, None, None, reasons)


def prune(store: Store, chapter: str, most: int) -> None:
    """Keep the newest runs of a chapter alone, `most` of them."""
    entries = store.entries(experiment_of(chapter))
    if len(entries) > most:
        dates = {entry.path: run["date"] for entry, run in _runs(store, entries).items()}
        for path in sorted((e.path for e in entries), key=lambda p: dates.get(p, ""))[:-most]:
            store.remove(path)


def _runs(store: Store, entries: Sequence[Entry]) -> dict[Entry, Run]:
    """What the kept notebooks remember, those that are damaged left out."""
    read = {entry: _described(content) for entry, content in store.read(entries)}
    return {entry: run for entry, run in read.items() if run is not None}


def _described(notebook: bytes | Damaged) -> Run | None:
    """What an executed notebook remembers of its run; None if it is damaged."""
    if isinstance(notebook, Damaged):
        return None
    try:
        run: Run = json.loads(notebook)["metadata"]["implreg"]
        return run if run["key"] == digest(run["inputs"]) else None
    except (ValueError, LookupError, TypeError):
        return None


def _reasons(
    chapter: Chapter,
    inputs: Inputs,
    kept: Mapping[Entry, Run],
    profile: str,
    running: Sequence[str],
) -> list[str]:
    alike = [run for run in kept.values() if run["inputs"].keys() == inputs.keys()]
    runs = sorted(alike, key=lambda run: str(run["date"]), reverse=True)
    if not runs:
        return ["it has no kept run to compare with"]
    same = [run for run in runs if run["inputs"]["values"] == inputs["values"]]
    if not same and runs[0]["profile"] != profile:
        return [f"it never ran with the parameters of profile {profile}"]
    return run_changes(chapter, inputs, (same or runs)[0], running)
