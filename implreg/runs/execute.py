"""Handing out runs to workers, and taking back what comes of them, even if workers are lost."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any

import pandas as pd

from implreg.errors import InputError
from implreg.runs.keys import Origin
from implreg.runs.report import say
from implreg.runs.work import Failed, Unlike, failed, perform
from implreg.runs.workers import LostWorkers, Workers

_QUIET = 10  # seconds without a result after which a user may be told why
_LOSSES = 3  # in a row, without a result between them


class _Lost(Exception):
    """Workers are gone, and with them the runs that they had."""


def execute(
    run: Callable[..., pd.DataFrame],
    configs: Mapping[str, Any],
    data: Any,
    origin: Origin,
    workers: Workers,
    retries: int,
) -> Iterator[tuple[str, bytes | Failed]]:
    """Yield the result of every run, in the order in which they end.

    When workers are lost, so are the runs that they had. Where one of these may be the cause, they
    run one at a time, before all others, until it is found or all of them are done.
    """
    queue = deque(configs)
    suspects: set[str] = set()
    tries: Counter[str] = Counter()
    losses = 0
    end: LostWorkers | None = None
    pending: dict[Future[Any], str] = {}
    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    shared = None if data is None else workers.share(data)
    while queue or pending:
        try:
            while queue and len(pending) < (1 if suspects else workers.window):
                future = _submit(workers, run, configs[queue[0]], shared, origin)
                pending[future] = queue.popleft()
                future.add_done_callback(ended.put)
            future = _next(ended, workers)
            if future not in pending:  # of workers that were lost
                continue
            result = _result(future, workers)
            if isinstance(result, Unlike):
                if not workers.restart():
                    raise InputError(
                        f"the workers must have the same code and libraries as the client, but "
                        f"have {result.difference}; install the same there, or start them again."
                    )
                queue.extendleft(reversed(pending.values()))
                pending.clear()
                continue
        except _Lost as loss:
            # What ended before the loss, or of itself, is in `ended` and stays there.
            gone = {f: key for f, key in pending.items() if _is_lost(f, workers)}
            for future in gone:
                del pending[future]
            again = list(gone.values()) or [queue.popleft()]
            if workers.blames and len(again) == 1:
                (key,) = again
                tries[key] += 1
                if tries[key] > retries:
                    suspects.discard(key)
                    again = []
                    yield key, failed(LostWorkers(f"its worker was killed {tries[key]} times"))
            elif workers.blames:
                suspects.update(again)
            losses += 1
            queue.extendleft(reversed(again))
            try:
                if losses > _LOSSES and not workers.blames:
                    raise LostWorkers(f"runs were lost {losses} times in a row ({loss})")
                workers.renew()
                shared = None if data is None else workers.share(data)
            except LostWorkers as error:
                end = error
                queue.clear()  # what ended before is still taken
            continue
        key = pending.pop(future)
        losses = 0
        suspects.discard(key)
        if isinstance(result, Failed) and result.passing and tries[key] < retries:
            tries[key] += 1
            queue.append(key)
            continue
        yield key, result
    if end is not None:
        raise end


def _submit(
    workers: Workers, run: Callable[..., pd.DataFrame], config: Any, data: Any, origin: Origin
) -> "Future[Any]":
    try:
        return workers.submit(perform, run, config, data, origin)
    except Exception as error:
        if workers.lost(error):
            raise _Lost(str(error)) from error
        raise


def _next(ended: "SimpleQueue[Future[Any]]", workers: Workers) -> "Future[Any]":
    """Wait for a run to end, and say once what keeps it from ending, if that is known."""
    told = ""
    while True:
        try:
            return ended.get(timeout=_QUIET)
        except Empty:
            if workers.gone():
                raise _Lost("the connection is gone") from None
            news = workers.waiting()
            if news != told:
                say(news)
            told = news


def _result(future: "Future[Any]", workers: Workers) -> bytes | Failed | Unlike:
    """Return what a worker sent; raise `_Lost` if it is gone."""
    try:
        return future.result()  # type: ignore[no-any-return]
    except (Exception, CancelledError) as error:  # whatever an executor raises
        if workers.lost(error):
            raise _Lost(str(error)) from error
        return failed(error)


def _is_lost(future: "Future[Any]", workers: Workers) -> bool:
    """Whether nothing will come of `future`, now that workers were lost."""
    if not future.done() or future.cancelled():
        return True
    error = future.exception()
    return error is not None and workers.lost(error)
