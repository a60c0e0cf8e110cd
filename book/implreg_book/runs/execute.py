"""Handing out runs to workers, and taking back what comes of them, even if workers are lost."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Self

import pandas as pd

from implreg_book.runs.keys import Origin
from implreg_book.runs.report import LostWorkers, say
from implreg_book.runs.work import Failure, Unlike, failed
from implreg_book.runs.workers import Workers

_QUIET = 10  # seconds without a result after which a user may be told why
_LOSSES = 3  # in a row, without a result between them
# What futures raise whose workers are gone; what tasks raise does not come this way.
_LOST = (BrokenExecutor, CancelledError)


@dataclass
class Execution:
    """Runs that wait, those that workers have, and what is known of lost workers.

    When workers are lost, so are the runs that they had. Where one of these may be the cause, they
    run one at a time, before all others, until it is found or all of them are done.

    Leaving its context lets go of the workers and, after an exception, of all runs that they have.

    Attributes:
        run: what a worker calls, see `implreg_book.runs.work.perform`.
        configs: its arguments, by key.
        data: what all runs share, None for nothing.
        origin: what all runs have in common.
        workers: that execute them.
        retries: how often a run is tried again whose worker was killed, or where that may help.
    """

    run: Callable[..., pd.DataFrame | bytes]
    configs: Mapping[str, Any]
    data: Any
    origin: Origin
    workers: Workers
    retries: int

    def __post_init__(self) -> None:
        self.queue = deque(self.configs)
        self.pending: dict[Future[Any], str] = {}
        self.ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self.suspects: set[str] = set()
        self.tries: Counter[str] = Counter()
        self.losses = 0  # in a row
        self.end: LostWorkers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.workers.close(None if kind is None else self.pending)

    def share(self) -> None:
        """Give the data of all runs to the workers."""
        self.shared = None if self.data is None else self.workers.share(self.data)

    def results(self) -> Iterator[tuple[str, bytes | Failure]]:
        """Yield what becomes of each run, in the order in which they end.

        Raises:
            LostWorkers: the workers are gone for good; after all that had ended.
        """
        self.share()
        while self.queue or self.pending:
            try:
                self.hand_out()
                found = self.take()
            except _LOST as loss:
                yield from self.blame()
                self.renew(loss)
            else:
                if found is not None:
                    yield found
        if self.end is not None:
            raise self.end

    def hand_out(self) -> None:
        """Submit as many runs as workers may have at once."""
        while self.queue and len(self.pending) < (1 if self.suspects else self.workers.window):
            future = self.workers.submit(
                self.run, self.configs[self.queue[0]], self.shared, self.origin
            )
            self.pending[future] = self.queue.popleft()
            future.add_done_callback(self.ended.put)

    def take(self) -> tuple[str, bytes | Failure] | None:
        """Wait for a run to end and return what came of it; None if it is to run again."""
        future = self.next()
        key = self.pending.get(future)
        if key is None:  # of workers that were lost
            return None
        try:
            result: bytes | Failure | Unlike = future.result()
        except _LOST:
            raise
        except Exception as error:  # whatever an executor raises
            result = failed(self.configs[key], error)
        if isinstance(result, Unlike):
            self.restart(result)
            return None
        del self.pending[future]
        self.losses = 0
        self.suspects.discard(key)
        if isinstance(result, Failure) and result.passing and self.tries[key] < self.retries:
            self.tries[key] += 1
            self.queue.append(key)
            return None
        return key, result

    def next(self) -> "Future[Any]":
        """Wait for a run to end, and say once what keeps it from ending, if that is known."""
        told = ""
        while True:
            try:
                return self.ended.get(timeout=_QUIET)
            except Empty:
                if self.workers.gone():
                    raise BrokenExecutor("the connection is gone") from None
                news = self.workers.waiting()
                if news != told:
                    say(news)
                told = news

    def restart(self, unlike: Unlike) -> None:
        """Let workers with other code import it again, and have all runs that they had again."""
        if not self.workers.restart():
            raise unlike.error()
        self.queue.extendleft(reversed(self.pending.values()))
        self.pending.clear()

    def blame(self) -> Iterator[tuple[str, Failure]]:
        """Put lost runs before all others; yield one that has cost too many workers instead."""
        # What ended before the loss, or of itself, is in `ended` and stays there.
        gone = {future: key for future, key in self.pending.items() if _is_lost(future)}
        for future in gone:
            del self.pending[future]
        again = list(gone.values()) or [self.queue.popleft()]
        if self.workers.blames and len(again) == 1:
            (key,) = again
            self.tries[key] += 1
            if self.tries[key] > self.retries:
                self.suspects.discard(key)
                again = []
                killed = LostWorkers(f"its worker was killed {self.tries[key]} times")
                yield key, failed(self.configs[key], killed)
        elif self.workers.blames:
            self.suspects.update(again)
        self.queue.extendleft(reversed(again))

    def renew(self, loss: Exception) -> None:
        """Get new workers; if there is no way, only what ended before is still taken."""
        self.losses += 1
        try:
            if self.losses > _LOSSES and not self.workers.blames:
                raise LostWorkers(f"runs were lost {self.losses} times in a row ({loss})")
            self.workers.renew()
            self.share()
        except LostWorkers as error:
            self.end = error
            self.queue.clear()


def _is_lost(future: "Future[Any]") -> bool:
    """Whether nothing will come of `future`, now that workers were lost."""
    return not future.done() or future.cancelled() or isinstance(future.exception(), _LOST)
