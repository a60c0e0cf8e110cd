"""Runs on a Dask cluster: lost connections, lost workers and a scheduler that starts again."""

import gc
import logging
import re
import time
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any

import cloudpickle

from implreg.errors import InputError
from implreg_book.runs.report import LostWorkers, say
from implreg_book.runs.work import Unlike, unpack_and_perform
from implreg_book.runs.workers import Workers

LOCAL = "local"
_CONNECT = 10  # seconds that a scheduler may take to answer
_PATIENCE = 60  # seconds that one that is gone may take to come back
# Their tracebacks of a lost connection say nothing that we do not say ourselves.
_LOGS = ("distributed.client", "tornado.application")


class Cluster(Workers):
    """The workers of a Dask scheduler.

    Dask itself runs again what a lost worker had, and gives up on a run that has killed four of
    them.

    Args:
        address: of the scheduler, such as ``tcp://host:8786``, or "local" for a cluster on this
            machine that lives as long as this object.
        gpu: whether each run needs one of the resource GPU, which workers have that were started
            with ``--resources GPU=1``.

    Raises:
        InputError: no scheduler answers at `address`.
    """

    def __init__(self, address: str, *, gpu: bool) -> None:
        import distributed  # a second to import, and only here

        self._distributed = distributed
        self._resources = {"resources": {"GPU": 1}} if gpu else {}
        self._own = None
        if address == LOCAL:
            self._own = distributed.LocalCluster(threads_per_worker=1, dashboard_address=":0")
            address = self._own.scheduler_address
        self.address = address
        super().__init__(self._connect())
        for name in _LOGS:
            logging.getLogger(name).addFilter(self._mute)

    def submit(self, *task: Any) -> "Future[Any]":
        """Hand out one run, packed so that the scheduler need not have its module."""
        return self.executor.submit(unpack_and_perform, cloudpickle.dumps(task[:2]), *task[2:])

    def share(self, data: Any) -> Any:
        """Send `data` to every worker; those that come later fetch it from these, once."""
        if news := self.waiting():
            say(news)
        while not self._workers():
            if self.gone():
                self.renew()
            time.sleep(0.2)
        try:
            return self._client.scatter(data, broadcast=True, hash=False)
        except Exception as error:  # of a worker's exception Dask passes on the text
            if missing := re.search(r"No module named '([\w.]+)'", str(error)):
                raise Unlike(f"no module {missing[1]}").error() from error
            raise

    def renew(self) -> None:
        """Connect again; a scheduler that was restarted has forgotten all runs."""
        before = self._scheduler
        say(
            f"The scheduler at {self.address} has lost runs, or is gone; connecting again, for up "
            f"to {_PATIENCE} s. What had finished is safe."
        )
        self._disconnect()
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.executor = self._connect()
                break
            except InputError as error:
                if time.monotonic() > deadline:
                    raise LostWorkers(
                        f"the scheduler at {self.address} did not come back within {_PATIENCE} s; "
                        f"start it again with dask scheduler, and workers with dask worker "
                        f"{self.address}"
                    ) from error
                time.sleep(0.5)
        restarted = "was restarted" if self._scheduler != before else "answers"
        say(f"The scheduler at {self.address} {restarted}; going on.")

    def gone(self) -> bool:
        """Whether the connection is lost or the scheduler another one."""
        client = self._client
        return client.status != "running" or client.scheduler_info().get("id") != self._scheduler

    def waiting(self) -> str:
        """Return that there are no workers, if so."""
        if self._workers():
            return ""
        return (
            f"The scheduler at {self.address} has no workers; start some with dask worker "
            f"{self.address}."
        )

    def close(self, stopped: "Iterable[Future[Any]] | None") -> None:
        """Forget all runs; the cluster goes on unless it is our own."""
        self._disconnect()
        if self._own is not None:
            self._own.close(timeout=_CONNECT)
        for name in _LOGS:
            logging.getLogger(name).removeFilter(self._mute)

    def _connect(self) -> Executor:
        # A client whose scheduler went away ends when it is collected. In the middle of the start
        # of another one that would wait for a lock which the start holds, forever.
        gc.collect()
        try:
            self._client = self._distributed.Client(
                self.address, timeout=_CONNECT, set_as_default=False
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"executor must be the address of a Dask scheduler, but none answers at "
                f"{self.address}; start one with dask scheduler and pass the address it prints."
            ) from error
        self._scheduler = self._client.scheduler_info()["id"]
        return self._client.get_executor(  # type: ignore[no-any-return]
            pure=False, **self._resources
        )

    def _mute(self, record: logging.LogRecord) -> bool:
        return False

    def _disconnect(self) -> None:
        with suppress(Exception):  # of a connection that is gone already
            self._client.close(timeout=1)

    def _workers(self) -> int:
        return len(self._client.scheduler_info().get("workers", ()))  # {} without a connection
