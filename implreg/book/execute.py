"""Running chapters with papermill; what ran once is kept until something that it needs changes."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import nbformat
import papermill
import psutil
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from implreg.book.chapters import Book, Chapter, Values
from implreg.book.plan import Run, Step, described, kept_files, plan
from implreg.book.provenance import describe_run, run_inputs
from implreg.book.why import changes
from implreg.dependencies import Root, Sources
from implreg.errors import InputError, prepare_folder
from implreg.settings import CHECKPOINTS, STORE

START_TIMEOUT = 120  # seconds until a kernel must answer
MESSAGE_TIMEOUT = 60  # seconds that the last outputs of a cell may take to arrive
RUNS_KEPT = 8  # per chapter, the newest

Result = TypeVar("Result")


class ChapterError(RuntimeError):
    """A chapter that did not run to its end; the message is one sentence."""


@dataclass(frozen=True)
class Outcome:
    """What became of one chapter: its notebook and what that remembers, or why it failed."""

    chapter: Chapter
    status: Literal["ran", "unchanged", "failed", "skipped"]
    seconds: float = 0.0
    notebook: Path | None = None
    reason: str = ""
    run: Run | None = None

    @property
    def finished(self) -> bool:
        """Whether the chapter's results are there."""
        return self.status in ("ran", "unchanged")


def run_chapter(
    chapter: Chapter,
    values: Values,
    output: Path,
    *,
    root: Path,
    label: str | None,
    cell_timeout: float,
) -> None:
    """Run `chapter` with papermill in folder `root` and write the notebook to `output`.

    On an error the notebook is kept as well, with the traceback in it. Progress is shown under the
    name `label`, if there is one.

    Raises:
        ChapterError: a cell failed or took more than `cell_timeout` seconds, or the kernel died.
        OSError: `output` cannot be written.
        KeyboardInterrupt: the user pressed Ctrl-C; the kernel is stopped by then.
    """

    def work() -> None:
        papermill.execute_notebook(
            nbformat.from_dict(chapter.notebook),  # whose key we have, whatever the file holds now
            output,
            parameters=values,
            kernel_name="python3",
            progress_bar=label is not None and {"desc": label, "disable": None, "leave": False},
            start_timeout=START_TIMEOUT,
            execution_timeout=cell_timeout,
            stderr_file=sys.stderr if label and sys.stderr.isatty() else None,  # bars of the runs
            iopub_timeout=MESSAGE_TIMEOUT,
            cwd=root,
            # At each start ipykernel warns of plain TCP, and when stopped it shows a traceback.
            extra_arguments=["--log-level=CRITICAL"],
        )

    try:
        _interruptible(work)
    except PapermillExecutionError as error:
        text = " ".join(str(error.evalue).split())
        raise ChapterError(f"{_last_cell(output)} raised {error.ename}: {text}") from error
    except CellTimeoutError as error:
        raise ChapterError(
            f"{_last_cell(output)} took more than {cell_timeout:g} s; "
            f"allow more with --cell-timeout."
        ) from error
    except DeadKernelError as error:
        raise ChapterError(
            f"the kernel died in {_last_cell(output)}, out of memory perhaps."
        ) from error
    except RuntimeError as error:
        # jupyter_client has no class of its own for a kernel that does not start.
        raise ChapterError(f"the kernel did not start: {' '.join(str(error).split())}") from error


def run_chapters(
    book: Book,
    chosen: Sequence[Chapter],
    *,
    build: Path,
    profile: str,
    values: dict[str, Values],
    force: bool,
    keep: bool,
    cell_timeout: float,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """Run the `chosen` chapters in `build`, those that read others last; yield each outcome.

    A chapter whose run is kept from before is not run again, unless `force`; with `keep` its runs
    of experiments are. Every finished notebook lies in ``build/executed``, where the chapters that
    read others find it.
    """
    executed = prepare_folder(build / "executed")
    # Chapters that read others find there those of this call, and none that is out of date.
    for old in executed.glob("*.ipynb"):
        if not any(old.stem == c.name and not c.reads_chapters for c in chosen):
            old.unlink()
    failed: list[str] = []
    steps = plan(book, chosen, build=build, profile=profile, values=values, force=force)
    for number, step in enumerate(steps, start=1):
        chapter, target = step.chapter, executed / step.chapter.source.name
        label = f"chapter {number} of {len(chosen)}: {chapter.name}"
        if chapter.reads_chapters and failed:
            reason = f"it reads {', '.join(failed)}, which failed."
            yield Outcome(chapter, "skipped", reason=reason)
            continue
        for other in step.borrowed:
            _lay(other, executed / other.chapter.source.name)
        if step.kept is not None:
            say(f"{label}, unchanged")
            _lay(step, target)
            yield Outcome(chapter, "unchanged", notebook=target, run=step.kept)
            continue
        say(label)
        target.unlink(missing_ok=True)
        running = prepare_folder(build / "running") / chapter.source.name
        failure = prepare_folder(build / "failed") / chapter.source.name
        keep_runs(build / "runs" if keep else None)
        start = time.monotonic()
        try:
            run_chapter(
                chapter,
                step.values,
                running,
                root=book.root,
                label=label,
                cell_timeout=cell_timeout,
            )
            _check_modules(step, book)
        except ChapterError as error:
            os.replace(running, failure)
            failed.append(chapter.name)
            seconds = time.monotonic() - start
            yield Outcome(chapter, "failed", seconds, failure, str(error))
            continue
        seconds = time.monotonic() - start
        notebook = nbformat.read(running, as_version=4)
        notebook.metadata["implreg"] = run = describe_run(
            chapter,
            step.values,
            root=book.root,
            profile=profile,
            inputs=step.inputs,
            seconds=seconds,
        )
        _keep(step, notebook)
        write_notebook(notebook, target)
        running.unlink()
        failure.unlink(missing_ok=True)
        yield Outcome(chapter, "ran", seconds, target, run=run)


def keep_runs(folder: Path | None) -> None:
    """Let the chapters' kernels keep finished runs in `folder`, unless the user chose another.

    Where trainings are goes beside it.
    """
    if folder is not None:
        os.environ.setdefault(STORE, str(prepare_folder(folder).resolve()))
        checkpoints = folder.with_name("checkpoints").resolve()
        os.environ.setdefault(CHECKPOINTS, str(checkpoints))
    else:
        os.environ.pop(STORE, None)
        os.environ.pop(CHECKPOINTS, None)


def beside(
    chapter: Chapter, executed: nbformat.NotebookNode
) -> Iterator[tuple[nbformat.NotebookNode | None, nbformat.NotebookNode | None]]:
    """Yield each cell of `chapter` as it is today, and as it ran; prose has only the former.

    The cells that papermill has injected have only the latter; they follow the parameters.
    """
    ran = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    for cell in chapter.notebook.cells:
        yield cell, ran[cell.id] if cell.cell_type == "code" else None
        if "parameters" in cell.metadata.get("tags", []):
            for other in ran.values():
                if "injected-parameters" in other.metadata.get("tags", []):
                    yield None, other


def write_notebook(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write `notebook` so that `path` holds either the old or the new one, never half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        nbformat.write(notebook, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _check_modules(step: Step, book: Book) -> None:
    """Raise `ChapterError` if a module was edited while the chapter ran: which code was it?"""
    now = run_inputs(step.chapter, step.values, step.inputs["upstream"], Sources(Root(book.root)))
    texts = changes(step.inputs["modules"], now["modules"])
    if texts:
        raise ChapterError(f"{'; '.join(texts)} while it ran; the same command runs it again.")


def _lay(step: Step, target: Path) -> None:
    """Let `target` hold the kept run of `step`, and note that it was used."""
    step.file.touch()
    # Reading and writing megabytes of notebook is most of the time of a call that runs nothing.
    if described(target) != step.kept:
        notebook = nbformat.read(step.file, as_version=4)
        notebook.metadata["implreg"] = step.kept
        write_notebook(notebook, target)


def _keep(step: Step, notebook: nbformat.NotebookNode) -> None:
    write_notebook(notebook, prepare_folder(step.file.parent) / step.file.name)
    for old in kept_files(step.file.parent)[RUNS_KEPT:]:
        old.unlink()


def _interruptible(work: Callable[[], Result]) -> Result:
    """Run `work` in a thread and, on Ctrl-C, stop the kernels that it started.

    In the main thread nbclient takes Ctrl-C for itself: it stops the kernel, but the chapter then
    looks as if it had crashed.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            while True:
                for process in psutil.Process().children(recursive=True):
                    process.kill()
                try:
                    future.exception(timeout=0.2)
                    raise
                except NotDone:
                    continue


def _last_cell(output: Path) -> str:
    """Name the last cell that papermill began to run when it wrote `output`."""
    cells = nbformat.read(output, as_version=4).cells
    begun = [c.id for c in cells if c.metadata.get("papermill", {}).get("start_time")]
    return f"cell {begun[-1]}" if begun else "its start"


def check_output_file(path: Path) -> Path:
    """Return `path` if a notebook can be written there, else raise `InputError` or `OSError`."""
    if path.suffix != ".ipynb" or (path.exists() and not path.is_file()):
        raise InputError(f"the output must be a file that ends in .ipynb, got {path}; name one.")
    prepare_folder(path.parent)
    return path
