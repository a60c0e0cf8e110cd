"""Where runs are executed: processes of this machine, a Dask cluster, or a given executor."""

import os
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
import loky
from filelock import FileLock, Timeout

from implreg.checks import check_count
from implreg.errors import InputError, writing
from implreg_book.runs.machine import lock_of
from implreg_book.runs.report import LostWorkers
from implreg_book.runs.work import Shipped, perform

_IDLE = 300  # seconds after which processes without work end
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GPUS = "CUDA_VISIBLE_DEVICES"
_held: list[FileLock] = []


class Workers:
    """A given executor, which cannot be replaced when it breaks.

    Attributes:
        window: how many runs are handed out at once.
        blames: whether a run can be the cause when workers are lost.
    """

    window = 1000
    blames = False

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def submit(self, *task: Any) -> "Future[Any]":
        """Hand out one run: what `perform` takes."""
        return self.executor.submit(perform, *task)

    def share(self, data: Any) -> Any:
        """Return what stands for `data` in the arguments of tasks: each worker reads it once."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="implreg-")
            self._shipped = Shipped(Path(self._folder.name) / "data")
            with writing(self._folder.name), self._shipped.path.open("wb") as file:
                cloudpickle.dump(data, file)
        return self._shipped

    def gone(self) -> bool:
        """Whether the workers are gone without any future having told so."""
        return False

    def renew(self) -> None:
        """Get new workers for the lost ones.

        Raises:
            LostWorkers: there is no way.
        """
        raise LostWorkers("the executor broke; pass a new one")

    def restart(self) -> bool:
        """Let the workers import all code again, if that is possible and was not done before."""
        return False

    def waiting(self) -> str:
        """Return what a user should know when nothing has come back for a while, "" if nothing."""
        return ""

    def close(self, stopped: "Iterable[Future[Any]] | None") -> None:
        """Let go of what `share` made; of tasks too, if they are to be `stopped`."""
        for future in stopped or ():
            future.cancel()
        if self._folder is not None:
            with suppress(OSError):
                self._folder.cleanup()


class Processes(Workers):
    """Processes of this machine; the cores are shared out among their threads.

    Args:
        most: how many processes, by default and at most as many as there are cores.
        tasks: how many runs there are.
        gpu: whether each process has a GPU of its own, by `CUDA_VISIBLE_DEVICES`; there are as many
            processes as GPUs then.

    Raises:
        InputError: a number of processes below 1, or no GPU.
    """

    blames = True

    def __init__(self, most: int | None, tasks: int, *, gpu: bool) -> None:
        cores = loky.cpu_count()
        count = min(tasks, cores if most is None else check_count("workers", most))
        self.gpus = gpus() if gpu else []
        if self.gpus:
            count = min(count, len(self.gpus))
        self.count = count
        self.threads = max(1, cores // count)
        self.window = count + 1  # one lies ready while a result is on its way
        self.old = True  # processes may be those of an earlier grid
        super().__init__(self._pool())

    def renew(self) -> None:
        """Start processes again."""
        self.executor = self._pool()

    def restart(self) -> bool:
        """Replace processes of an earlier grid: the code may have been edited since."""
        if not self.old:
            return False
        self.executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
        self.renew()
        self.old = False
        return True

    def _pool(self) -> Executor:
        """The processes of the last grid if they are alike and still there, else new ones."""
        limits = dict.fromkeys((*_THREADS, "LOKY_MAX_CPU_COUNT"), str(self.threads))
        return loky.get_reusable_executor(  # type: ignore[no-any-return]
            self.count,
            timeout=_IDLE,
            env=limits,
            initializer=_begin,
            initargs=(os.getpid(), os.getcwd(), self.gpus),
        )

    def close(self, stopped: "Iterable[Future[Any]] | None") -> None:
        """Keep the processes for the next grid, unless tasks under way must stop."""
        super().close(stopped)
        if stopped is not None:
            self.executor.shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]


def gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` has them.

    Raises:
        InputError: there is none.
    """
    import torch  # seconds to import, and only here

    count = torch.cuda.device_count()
    if not count:
        raise InputError("gpu asks for a GPU, but torch finds none here; leave it out.")
    listed = os.environ.get(_GPUS, ",".join(map(str, range(count))))
    return [name.strip() for name in listed.split(",")][:count]


def _begin(client: int, folder: str, gpus: list[str]) -> None:
    """Prepare a process: it ends with the client, works in its folder, and has a GPU of its own."""
    os.chdir(folder)
    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
    if gpus:
        _claim(gpus)


def _end_with(client: int) -> None:
    while os.getppid() == client:
        time.sleep(1)
    os._exit(1)


def _claim(names: list[str]) -> None:
    """Take the first GPU that no other process has, until this process ends."""
    while True:
        for name in names:
            lock = lock_of(f"GPU {name}")
            with suppress(Timeout):
                lock.acquire(timeout=0.1)
                _held.append(lock)
                os.environ[_GPUS] = name
                return
