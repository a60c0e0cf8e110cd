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

from implreg.book.chapters import CHAPTERS_PARAMETER, Book, Chapter, Values
from implreg.book.provenance import describe_run, run_key
from implreg.errors import InputError, prepare_folder

START_TIMEOUT = 120  # seconds until a kernel must answer
CELL_TIMEOUT = 3600  # seconds that one cell may take
MESSAGE_TIMEOUT = 60  # seconds that the last outputs of a cell may take to arrive
RUNS_KEPT = 8  # per chapter, the newest

Result = TypeVar("Result")


class ChapterError(RuntimeError):
    """A chapter that did not run to its end; the message is one sentence."""


@dataclass(frozen=True)
class Outcome:
    """What became of one chapter: its executed notebook, and why it failed if it did."""

    chapter: Chapter
    status: Literal["ran", "unchanged", "failed", "skipped"]
    seconds: float = 0.0
    notebook: Path | None = None
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether the chapter's results are there."""
        return self.status in ("ran", "unchanged")


def run_chapter(
    chapter: Chapter, values: Values, output: Path, *, root: Path, label: str, cell_timeout: float
) -> None:
    """Run `chapter` with papermill in folder `root` and write the notebook to `output`.

    On an error the notebook is kept as well, with the traceback in it.

    Raises:
        ChapterError: a cell failed or took more than `cell_timeout` seconds, or the kernel died.
        OSError: `output` cannot be written.
        KeyboardInterrupt: the user pressed Ctrl-C; the kernel is stopped by then.
    """

    def work() -> None:
        papermill.execute_notebook(
            chapter.source,
            output,
            parameters=values,
            kernel_name="python3",
            progress_bar={"desc": label, "disable": None, "leave": False},
            start_timeout=START_TIMEOUT,
            execution_timeout=cell_timeout,
            stderr_file=sys.stderr if sys.stderr.isatty() else None,  # bars of the runs
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
    cell_timeout: float,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """Run the `chosen` chapters in `build`, those that read others last; yield each outcome.

    A chapter whose run is kept from before is not run again, unless `force`. Every finished
    notebook lies in ``build/executed``, where the chapters that read others find it.
    """
    executed = prepare_folder(build / "executed")
    for old in executed.glob("*.ipynb"):
        old.unlink()
    ordered = sorted(chosen, key=lambda chapter: chapter.reads_chapters)
    keys: dict[str, str] = {}
    failed: list[str] = []
    for number, chapter in enumerate(ordered, start=1):
        label = f"chapter {number} of {len(ordered)}: {chapter.name}"
        own = values[chapter.name]
        upstream = {}
        if chapter.reads_chapters:
            if failed:
                reason = f"it reads {', '.join(failed)}, which failed."
                yield Outcome(chapter, "skipped", reason=reason)
                continue
            _borrow(book, chosen, keys, profile, build)
            own = own | {CHAPTERS_PARAMETER: os.path.relpath(executed, book.root)}
            upstream = keys | {"profile": profile}
        key = run_key(chapter, own, upstream)
        target = executed / chapter.source.name
        kept = None if force else _kept_run(chapter, key, build)
        if kept is not None:
            say(f"{label}, unchanged")
            kept.metadata.implreg.profile = profile
            write_notebook(kept, target)
            yield Outcome(chapter, "unchanged", notebook=target)
        else:
            say(label)
            running = prepare_folder(build / "running") / chapter.source.name
            failure = prepare_folder(build / "failed") / chapter.source.name
            start = time.monotonic()
            try:
                run_chapter(
                    chapter, own, running, root=book.root, label=label, cell_timeout=cell_timeout
                )
            except ChapterError as error:
                os.replace(running, failure)
                failed.append(chapter.name)
                seconds = time.monotonic() - start
                yield Outcome(chapter, "failed", seconds, failure, str(error))
                continue
            seconds = time.monotonic() - start
            notebook = nbformat.read(running, as_version=4)
            notebook.metadata["implreg"] = describe_run(
                chapter, own, root=book.root, profile=profile, key=key, seconds=seconds
            )
            _keep_run(chapter, key, notebook, build)
            write_notebook(notebook, target)
            running.unlink()
            failure.unlink(missing_ok=True)
            yield Outcome(chapter, "ran", seconds, target)
        keys[chapter.name] = key


def write_notebook(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write `notebook` so that `path` holds either the old or the new one, never half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        nbformat.write(notebook, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _borrow(
    book: Book, chosen: Sequence[Chapter], keys: dict[str, str], profile: str, build: Path
) -> None:
    """Lay runs of chapters that are not `chosen` but are kept from before beside the others."""
    for chapter in book.chapters.values():
        if chapter not in chosen and not chapter.reads_chapters:
            key = run_key(chapter, book.values(chapter, profile, {}), {})
            kept = _kept_run(chapter, key, build)
            if kept is not None:
                keys[chapter.name] = key
                write_notebook(kept, build / "executed" / chapter.source.name)


def _kept_run(chapter: Chapter, key: str, build: Path) -> nbformat.NotebookNode | None:
    path = _cache_file(chapter, key, build)
    try:
        notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        whole = notebook.metadata["implreg"]["key"] == key
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError):
        return None  # damaged: run it again
    if not whole:
        return None
    path.touch()
    return notebook


def _keep_run(chapter: Chapter, key: str, notebook: nbformat.NotebookNode, build: Path) -> None:
    path = _cache_file(chapter, key, build)
    write_notebook(notebook, prepare_folder(path.parent) / path.name)
    newest = sorted(path.parent.glob("*.ipynb"), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in newest[RUNS_KEPT:]:
        old.unlink()


def _cache_file(chapter: Chapter, key: str, build: Path) -> Path:
    return build / "cache" / chapter.name / f"{key[:32]}.ipynb"


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
