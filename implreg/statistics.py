"""Estimates with 95 % intervals over independent seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from implreg.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval from n independent seeds; no interval (NaN) if n is 1."""

    value: float
    low: float
    high: float
    n: int

    def __contains__(self, value: float) -> bool:
        """Whether the interval contains `value`."""
        return self.low <= value <= self.high

    def __format__(self, spec: str) -> str:
        """`value [low, high]`, each number in the format `spec` (default `.3g`)."""
        spec = spec or ".3g"
        value, low, high = (
            f"{x:{spec}}".replace("-", "−") for x in (self.value, self.low, self.high)
        )
        return f"{value} (one seed)" if self.n == 1 else f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)

    def map(self, function: Callable[[float], float]) -> "Estimate":
        """The estimate of an increasing function of the value."""
        return Estimate(function(self.value), function(self.low), function(self.high), self.n)


def mean_interval(values: Sequence[float] | np.ndarray | pd.Series) -> Estimate:
    r"""Mean with its Student t interval, :math:`\bar x \pm t_{0.975, n-1} \, s / \sqrt n`.

    Args:
        values: one number per independent seed, (n,).

    Raises:
        InputError: there is no value, or one is not finite.

    >>> print(mean_interval([1.0, 2.0, 3.0, 4.0, 5.0]))
    3 [1.04, 4.96]
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise InputError(
            f"values must be a list of finite numbers, one per seed, got {values!r}; leave out or "
            f"count apart the seeds without a value."
        )
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * x.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def power_law(table: pd.DataFrame, x: str, y: str, *, seed: str = "seed") -> Estimate:
    r"""Exponent b of :math:`y \propto x^b`, from one least-squares line per seed.

    Each seed gives the slope of :math:`\log y` on :math:`\log x`; the estimate is the mean of the
    slopes with its t interval.

    Args:
        table: one row per seed and x; y positive.
        x: column of the independent variable; at least two values per seed.
        y: column of the dependent variable.
        seed: column of the independent repetitions.

    Raises:
        InputError: fewer than two values of x, or a number that is not positive.

    >>> table = pd.DataFrame({"n": [1, 4, 1, 4], "y": [2, 1, 4, 2], "seed": [0, 0, 1, 1]})
    >>> round(power_law(table, "n", "y").value, 12)
    -0.5
    """
    used = table[[x, y]].to_numpy(dtype=float)
    if not (np.isfinite(used) & (used > 0)).all() or table[x].nunique() < 2:
        raise InputError(
            f"{x} and {y} must be positive numbers with at least two values of {x}, got "
            f"{table[x].nunique()} of them; measure at more values of {x}."
        )
    slopes = [
        np.polyfit(np.log(group[x].to_numpy(float)), np.log(group[y].to_numpy(float)), 1)[0]
        for _, group in table.groupby(seed)
    ]
    return mean_interval(slopes)


def ratio(above: Sequence[float] | pd.Series, below: Sequence[float] | pd.Series) -> Estimate:
    """Geometric mean of the ratios of paired positive numbers, with its interval.

    Args:
        above: numerators, one per seed, (n,).
        below: denominators of the same seeds, (n,).

    Raises:
        InputError: different lengths, or a number that is not positive.

    >>> print(ratio([2.0, 8.0], [1.0, 1.0]).value)
    4.0
    """
    a, b = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    if a.shape != b.shape or not ((a > 0) & (b > 0)).all():
        raise InputError(
            f"above and below must be positive numbers of the same seeds, got {a.tolist()} and "
            f"{b.tolist()}; pair them and leave out zeros."
        )
    return mean_interval(np.log(a / b)).map(math.exp)
