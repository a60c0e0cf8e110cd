"""One chapter in a kernel of its own, by papermill."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL
from tempfile import gettempdir
from typing import Any
from uuid import uuid4

import nbformat
import papermill
import psutil
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from implreg.errors import InputError, prepare_folder, writing
from implreg_book.parameters.schema import Values
from implreg_book.press.chapters import Chapter

STARTS = 3  # times that a kernel is started before it is given up
START_TIMEOUT = 120  # seconds until a kernel must answer
MESSAGE_TIMEOUT = 60  # seconds that the last outputs of a cell may take to arrive
_LONGEST_SOCKET = 100  # bytes of a socket's path that every system takes, less its number


class ChapterError(RuntimeError):
    """A chapter that did not run to its end; the message is one sentence."""


class _Kernel(AsyncKernelManager):
    """A kernel that is reached by files, and whose own words are not shown.

    Ports are chosen by whoever starts a kernel and taken by the kernel a second later: of chapters
    that run side by side, one may take those of another, which then dies or is never heard. Sockets
    that are files have names of their own; systems without them keep to ports. When a kernel is
    stopped it may show a traceback; what its cells say are outputs of the notebook.
    """

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
        own = Path(gettempdir()) / f"implreg-{uuid4().hex}"
        if os.name == "posix" and len(os.fsencode(own)) < _LONGEST_SOCKET:
            self.transport, self.ip = "ipc", str(own)
            self.connection_file = f"{own}.json"
        with writing(gettempdir()):  # which has the file that says how to reach it
            await super().start_kernel(**options, stderr=DEVNULL)


def run_chapter(
    chapter: Chapter,
    values: Values,
    output: Path,
    failed: Path,
    *,
    label: str | None,
    cell_timeout: float,
) -> nbformat.NotebookNode:
    """Run `chapter` with papermill in the current folder and return its notebook.

    A kernel that does not start, as on a machine that has much else to do, is started again. The
    notebook is in the file `output` while it runs, and afterwards in `failed` if it did not run to
    its end, with the traceback in it. Progress is shown under the name `label`, if there is one.

    Raises:
        ChapterError: a cell failed or took more than `cell_timeout` seconds, or the kernel died.
        OSError: `output`, or what a kernel needs, cannot be written.
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
            kernel_manager_class=_Kernel,
        )

    with _kept(output, failed):
        try:
            for attempt in range(1, STARTS + 1):
                try:
                    _interruptible(work)
                    break
                except RuntimeError as error:
                    # jupyter_client has no class of its own for a kernel that does not start.
                    if attempt == STARTS or type(error) is not RuntimeError:
                        raise
        except PapermillExecutionError as error:
            text = " ".join(str(error.evalue).split())
            raise ChapterError(f"{_last_cell(output)} raised {error.ename}: {text}") from error
        except CellTimeoutError as error:
            late = f"took more than {cell_timeout:g} s; allow more with --cell-timeout."
            raise ChapterError(f"{_last_cell(output)} {late}") from error
        except DeadKernelError as error:
            where = _last_cell(output)
            raise ChapterError(f"the kernel died in {where}, out of memory perhaps.") from error
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise ChapterError(f"the kernel did not start in {STARTS} tries: {text}") from error
        return nbformat.read(output, as_version=4)  # type: ignore[no-any-return]


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


def outputs_of(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    """Yield all outputs of a notebook."""
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def glued(executed: nbformat.NotebookNode) -> dict[str, str]:
    """Return what an executed notebook glues into its prose, as text, by name."""
    return {
        output.metadata.scrapbook.name: str(text)
        for output in outputs_of(executed)
        if "scrapbook" in output.get("metadata", {})
        for kind, text in output.data.items()
        if kind.endswith("text/plain")
    }


@contextmanager
def _kept(output: Path, failed: Path) -> Iterator[None]:
    """Let what is left in `output` lie in `failed` if a chapter did not run to its end."""
    failed.unlink(missing_ok=True)  # of an earlier run
    try:
        with writing(output):
            yield
    except (ChapterError, KeyboardInterrupt):
        with suppress(OSError):
            os.replace(output, prepare_folder(failed.parent) / failed.name)
        raise
    finally:
        output.unlink(missing_ok=True)


def _interruptible(work: Callable[[], None]) -> None:
    """Run `work` in a thread and, on Ctrl-C, stop the kernels that it started.

    In the main thread nbclient takes Ctrl-C for itself: it stops the kernel, but the chapter then
    looks as if it had crashed.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            future.result()
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
