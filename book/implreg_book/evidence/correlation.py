r"""Rank correlations over many networks, with intervals that respect what they share.

Networks of one configuration (one width, one data set, one rate) that differ in their seed are not
independent evidence on other configurations. So intervals come from a cluster bootstrap: whole
configurations are drawn again with replacement, each with all of its seeds.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from implreg.checks import check_count
from implreg.errors import InputError
from implreg_book.evidence.statistics import Estimate, tail

Values = Sequence[float] | np.ndarray | pd.Series

_ENTRIES = 2**21  # of one array of a chunk of resamples


def rank_correlation(
    x: Values,
    y: Values,
    clusters: Sequence[object] | np.ndarray | pd.Series,
    *,
    given: Values | None = None,
    tests: int = 1,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    r"""Spearman's rank correlation of x and y, or their partial one given a covariate.

    With mean ranks for ties and Pearson's correlation r of ranks, it is :math:`r_{xy}` or

    .. math:: r_{xy|z} = \frac{r_{xy} - r_{xz} r_{yz}}{\sqrt{(1 - r_{xz}^2) (1 - r_{yz}^2)}},

    the correlation of what remains of the ranks of x and y after a least-squares line on those of
    z. The interval holds the middle 95 % of the correlations of `resamples` draws of as many
    clusters as there are, with replacement (percentile bootstrap); ranks are taken anew in every
    draw. Draws in which it is not defined, as x, y or z takes a single value or z fixes the ranks
    of another, are left out.

    Args:
        x: a measure, one number per network, (n,).
        y: such as the test error, (n,).
        clusters: which configuration each network is of, (n,).
        given: the covariate z, such as the training loss, (n,); None for none. Ranks do not change
            with its logarithm.
        tests: number of intervals that shall hold together; each leaves out fewer draws at its
            ends, see `statistics.tail`.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        The correlation with its interval and the number of clusters. No interval (NaN) with one
        cluster, or where fewer than half of the draws have a correlation.

    Raises:
        InputError: lists of different lengths; a number that is NaN or infinite; a list of a single
            value; a covariate that fixes the ranks of x or y; a setting out of its range.

    Source: Spearman (1904); Davison and Hinkley (1997), section 3.8, for drawing clusters.

    >>> found = rank_correlation([1, 2, 3, 4], [1, 4, 9, 16], [0, 0, 1, 1])
    >>> found.value, found.n
    (1.0, 2)
    >>> x, y, z = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5], [1, 3, 2, 5, 4]
    >>> round(rank_correlation(x, y, range(5), given=z).value, 4)  # of r = 0.8, 0.8 and 0.3
    0.9784
    """
    named = {"x": x, "y": y} | ({} if given is None else {"given": given})
    columns = [_numbers(name, values, len(clusters)) for name, values in named.items()]
    check_count("resamples", resamples)
    check_count("seed", seed, at_least=0)
    out = tail(tests)
    orders = [_Order(column) for column in columns]
    value = float(_correlations(orders, np.ones((1, len(clusters))))[0])
    if math.isnan(value):
        raise InputError(
            "given must leave the ranks of x and y free, but it fixes those of one of them; leave "
            "it out or choose another covariate."
        )
    cluster, names = pd.factorize(pd.Series(clusters), use_na_sentinel=False)
    number = len(names)
    if number == 1:
        return Estimate(value, math.nan, math.nan, 1)
    random = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    for some in _split(resamples, max(1, _ENTRIES // len(clusters))):
        times = random.multinomial(number, np.full(number, 1 / number), size=some)
        drawn.append(_correlations(orders, times[:, cluster].astype(float)))
    found = np.concatenate(drawn)
    found = found[~np.isnan(found)]
    if 2 * len(found) < resamples:
        return Estimate(value, math.nan, math.nan, number)
    low, high = np.quantile(found, [out, 1 - out])
    return Estimate(value, float(low), float(high), number)


class _Order:
    """Values of a list that is drawn from, prepared so that draws are ranked without sorting."""

    def __init__(self, values: np.ndarray) -> None:
        _, self.group, sizes = np.unique(values, return_inverse=True, return_counts=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.cumsum(sizes) - sizes

    def ranks(self, times: np.ndarray) -> np.ndarray:
        """Mean ranks in draws that hold entry j `times[:, j]` times, (draws, n)."""
        sizes = np.add.reduceat(times[:, self.order], self.starts, axis=1)
        middle: np.ndarray = (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, self.group]
        return middle


def _correlations(orders: Sequence[_Order], times: np.ndarray) -> np.ndarray:
    """The correlation in every draw, partial if there are three lists; NaN if undefined."""
    total = times.sum(1, keepdims=True)
    scaled = []
    for order in orders:
        ranks = order.ranks(times)
        ranks -= (times * ranks).sum(1, keepdims=True) / total
        size = np.sqrt((times * ranks**2).sum(1, keepdims=True))
        # The ranks of a list that varies differ from their mean by 1/4 at least.
        scaled.append(ranks / np.where(size > 0.1, size, np.nan))

    def correlation(a: int, b: int) -> Any:
        return (times * scaled[a] * scaled[b]).sum(1).clip(-1, 1)

    r: np.ndarray = correlation(0, 1)
    if len(orders) == 2:
        return r
    rx, ry = correlation(0, 2), correlation(1, 2)
    free = (1 - rx**2) * (1 - ry**2)
    r = (r - rx * ry) / np.sqrt(np.where(free > 1e-12, free, np.nan))
    return r.clip(-1, 1)


def _numbers(name: str, values: Values, length: int) -> np.ndarray:
    column = np.asarray(values, dtype=float)
    if column.shape != (length,):
        raise InputError(
            f"{name} must be a list of {length} numbers, one per entry of clusters, got shape "
            f"{column.shape}; pass one number per network."
        )
    bad = int((~np.isfinite(column)).sum())
    if bad:
        raise InputError(
            f"{name} must be finite, but {bad} of its {length} entries are NaN or infinite; leave "
            f"those networks out of all lists and say how many there are."
        )
    if len(np.unique(column)) < 2:
        raise InputError(
            f"{name} must take two values or more, got one in {length} entries; a constant has no "
            f"rank correlation."
        )
    return column


def _split(total: int, most: int) -> list[int]:
    return [min(most, total - begin) for begin in range(0, total, most)]
