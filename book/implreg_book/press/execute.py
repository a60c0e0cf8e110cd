"""Running chapters side by side; what ran once is kept until something that it needs changes.

A chapter with its parameters is a run like any other: the same workers execute it, the same store
keeps it. The book is one step for each chapter, a sweep many steps of one.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Literal

import nbformat
from tqdm import tqdm

from implreg.errors import InputError, explain_os_error, prepare_folder, write_whole
from implreg_book.press.chapters import Chapter
from implreg_book.press.notebook import ChapterError, run_chapter
from implreg_book.press.plan import Run, Step, Task, experiment_of, plan, prune, store_of
from implreg_book.press.provenance import Inputs, describe_run, run_inputs
from implreg_book.press.why import input_changes
from implreg_book.runs.dependencies import Root, Sources, versions
from implreg_book.runs.store import Store
from implreg_book.settings import CHECKPOINTS, SCHEDULER, STORE, VARIABLES

if TYPE_CHECKING:
    from implreg_book.runs.work import Failure

RUNS_KEPT = 8  # per chapter, the newest
RETRIES = 2  # of a chapter whose worker was killed
_CORES = "LOKY_MAX_CPU_COUNT"


@dataclass(frozen=True)
class Outcome:
    """What became of one chapter.

    Attributes:
        chapter: the chapter.
        status: in one word.
        seconds: that it took.
        run: what a finished notebook remembers.
        text: the finished notebook itself, as it is kept; "" if it is not finished.
        reason: why it failed or was skipped.
        notebook: that of a chapter that failed.
    """

    chapter: Chapter
    status: Literal["ran", "unchanged", "failed", "skipped"]
    seconds: float = 0.0
    run: Run | None = None
    text: str = ""
    reason: str = ""
    notebook: Path | None = None


@dataclass(frozen=True)
class Shared:
    """What workers know of the chapters that they execute.

    Attributes:
        steps: what is to be done, each under a name of its own: a chapter's, or the key of the run.
        profile: that the values are from.
        cell_timeout: seconds that one cell may take.
        build: folder in which a user finds notebooks while they run, and those of chapters that
            failed; None for none.
        variables: what a worker of this machine sets for the kernels; None on other machines.
    """

    steps: Mapping[str, Step]
    profile: str
    cell_timeout: float
    build: Path | None = None
    variables: Mapping[str, str] | None = None


def run_steps(
    shared: Shared, store: Store, *, scheduler: str | None = None, workers: int | None = None
) -> "Iterator[tuple[Step, str | Failure]]":
    """Execute steps side by side and keep them; yield each with its notebook, as they end.

    Args:
        shared: the steps, at least one, and what they share.
        store: where to keep them.
        scheduler: address of a Dask scheduler, by default none: processes of this machine.
        workers: how many processes, by default one for each core.

    Raises:
        InputError: workers with other code or libraries, or no scheduler at that address.
        LostWorkers: the workers are gone for good.
        OSError: the store cannot be written.
    """
    # They import pandas, which what runs nothing need not wait for.
    from implreg_book.runs.cluster import Cluster
    from implreg_book.runs.execute import Execution
    from implreg_book.runs.keys import Origin, known_code
    from implreg_book.runs.workers import Processes

    store.check_writable()
    origin = Origin(f"{__name__}.run", known_code(__name__), versions(), "")
    names = {name: name for name in shared.steps}
    where = Cluster(scheduler, gpu=False) if scheduler else Processes(
        workers, len(names), gpu=False
    )  # fmt: skip
    with Execution(run, names, shared, origin, where, RETRIES) as execution:
        for name, result in execution.results():
            step = shared.steps[name]
            if isinstance(result, bytes):
                store.put(experiment_of(step.chapter.name), step.key, result)
                yield step, result.decode()
            else:
                yield step, result


def run(key: str, shared: Shared) -> bytes:
    """Execute a chapter and return its notebook, which remembers the run.

    Raises:
        ChapterError: a cell failed, or took too long, or a module was edited while it ran.
        InputError: this worker has other code than the client.
    """
    step = shared.steps[key]
    chapter, upstream = step.chapter, step.inputs["upstream"]

    def inputs() -> Inputs:
        return run_inputs(chapter, step.values, upstream, Sources(Root(Path())))

    if told := "; ".join(input_changes(step.inputs, inputs())):
        raise InputError(
            f"the workers must have the same code and libraries as the client, but have others "
            f"({told}); install the same there, or start again after an edit."
        )
    _set_variables(shared.variables)
    start = monotonic()
    with TemporaryDirectory(prefix="implreg-") as folder:
        build, name = shared.build or Path(folder), chapter.source.name
        label = chapter.name if len(shared.steps) == 1 else None
        try:
            running, failed = prepare_folder(build / "running") / name, build / "failed" / name
            executed = run_chapter(
                chapter, step.values, running, failed, label=label, cell_timeout=shared.cell_timeout
            )
        except OSError as error:
            raise ChapterError(explain_os_error(error)) from error
    now = inputs()
    if told := "; ".join(input_changes(step.inputs, now)):
        raise ChapterError(f"{told} while it ran; the same command runs it again.")
    executed.metadata["implreg"] = describe_run(
        chapter, step.values, profile=shared.profile, inputs=now, seconds=monotonic() - start
    )
    text: str = nbformat.writes(executed)
    return text.encode()


def run_chapters(
    task: Task, *, keep: bool, cell_timeout: float, say: Callable[[str], None]
) -> Iterator[Outcome]:
    """Run the chosen chapters, those that read others last, and yield each outcome.

    A chapter whose run is kept from before is not run again, unless the task forces it; with `keep`
    its runs of experiments are. Every finished notebook lies in ``build/executed``, where the
    chapters that read others find it.
    """
    # Chapters that read others find there those of this call, and none that is out of date.
    for old in prepare_folder(task.executed).glob("*.ipynb"):
        if not any(old.stem == c.name and not c.reads_chapters for c in task.chosen):
            old.unlink()
    store = store_of(task.build)
    steps = plan(task)
    keep_runs(task.build / "runs" if keep else None)
    shared = Shared({}, task.profile, cell_timeout, task.build.resolve(), inherited())
    failed: list[str] = []
    readers = sum(chapter.reads_chapters for chapter in task.chosen)
    for wave in (len(task.chosen) - readers, readers):
        for outcome in _wave(task, list(islice(steps, wave)), failed, shared, store):
            timed = f", {outcome.seconds:.0f} s" if outcome.status in ("ran", "failed") else ""
            say(f"chapter {outcome.chapter.name}: {outcome.status}{timed}")
            if outcome.status == "failed":
                failed.append(outcome.chapter.name)
            yield outcome


def _wave(
    task: Task, steps: Sequence[Step], failed: Sequence[str], shared: Shared, store: Store
) -> Iterator[Outcome]:
    """What becomes of chapters that do not read one another."""
    todo = {}
    for step in steps:
        if step.chapter.reads_chapters and failed:
            reason = f"it reads {', '.join(failed)}, which failed."
            yield Outcome(step.chapter, "skipped", reason=reason)
            continue
        for other in step.borrowed:
            _lay(task, other)
        if step.text is None:
            (task.executed / step.chapter.source.name).unlink(missing_ok=True)
            todo[step.chapter.name] = step  # another chapter may be alike, and so have its key
        else:
            _lay(task, step)
            yield Outcome(step.chapter, "unchanged", run=step.kept, text=step.text)
    if not todo:
        return
    names = list(todo)
    with tqdm(total=len(todo), desc="chapters", unit="chapter", disable=None, leave=False) as bar:
        bar.set_postfix_str(", ".join(names))
        for step, result in run_steps(replace(shared, steps=todo), store):
            names.remove(step.chapter.name)
            bar.update()
            bar.set_postfix_str(", ".join(names))
            notebook = task.build / "failed" / step.chapter.source.name
            if isinstance(result, str):
                prune(store, step.chapter.name, RUNS_KEPT)
                _lay(task, replace(step, text=result))
                kept: Run = nbformat.reads(result, as_version=4).metadata["implreg"]
                yield Outcome(step.chapter, "ran", kept["duration"], kept, result)
            else:
                yield Outcome(
                    step.chapter,
                    "failed",
                    result.seconds,
                    reason=result.error.removeprefix(f"{ChapterError.__name__}: "),
                    notebook=notebook if notebook.exists() else None,
                )


def keep_runs(folder: Path | None) -> None:
    """Let the chapters' kernels keep finished runs in `folder`, unless the user chose another.

    Where trainings are goes beside it.
    """
    if folder is not None:
        os.environ.setdefault(STORE, str(prepare_folder(folder).resolve()))
        os.environ.setdefault(CHECKPOINTS, str(folder.with_name("checkpoints").resolve()))
    else:
        os.environ.pop(STORE, None)
        os.environ.pop(CHECKPOINTS, None)


def inherited() -> dict[str, str]:
    """Return what the kernels of this machine's workers inherit: all settings of ours."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _set_variables(variables: Mapping[str, str] | None) -> None:
    """Prepare what the kernels of this worker inherit."""
    if variables is None:
        os.environ.pop(SCHEDULER, None)  # runs of the chapter would wait for the worker it is on
    else:
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(variables)
    os.environ.setdefault(_CORES, "1")


def _lay(task: Task, step: Step) -> None:
    """Let the kept run of `step` lie where chapters that read others find it."""
    target = task.executed / step.chapter.source.name
    assert step.text is not None
    if not target.is_file() or target.read_text(encoding="utf-8") != step.text:
        write_whole(target, step.text.encode())
