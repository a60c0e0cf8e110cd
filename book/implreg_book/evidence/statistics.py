"""Estimates with 95 % intervals over independent seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from implreg.checks import check_count
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
        """`value [low, high]`, each number in the format `spec` (default: three digits).

        The space inside the brackets does not break, so that an interval stays on one line.
        """
        if not self.n:
            return "no run"
        spec = spec or "#.3g"
        value, low, high = (
            f"{x:{spec}}".removesuffix(".").replace("-", "−")
            for x in (self.value, self.low, self.high)
        )
        return f"{value} (one seed)" if self.n == 1 else f"{value} [{low},\N{NO-BREAK SPACE}{high}]"

    def __str__(self) -> str:
        return format(self)

    def map(self, function: Callable[[float], float]) -> "Estimate":
        """The estimate of an increasing function of the value."""
        return Estimate(function(self.value), function(self.low), function(self.high), self.n)


NONE = Estimate(math.nan, math.nan, math.nan, 0)  # of no run


def tail(tests: int = 1) -> float:
    """Chance beyond each end of an interval, if `tests` of them hold together (Bonferroni).

    All of them contain their true values at once in at least 95 % of all repetitions.

    >>> round(tail(), 12), round(tail(5), 12)
    (0.025, 0.005)
    """
    check_count("tests", tests)
    return (1 - CONFIDENCE) / 2 / tests


def quantile(freedom: float, tests: int = 1) -> float:
    """Student's quantile t of an interval, see `tail`; the normal one with infinite freedom.

    >>> round(quantile(9), 3), round(quantile(9, tests=5), 3), round(quantile(math.inf), 3)
    (2.262, 3.25, 1.96)
    """
    return float(special.stdtrit(freedom, 1 - tail(tests)))


def mean_interval(values: Sequence[float] | np.ndarray | pd.Series) -> Estimate:
    r"""Mean with its Student t interval, :math:`\bar x \pm t_{0.975, n-1} \, s / \sqrt n`.

    Args:
        values: one number per independent seed, (n,).

    Raises:
        InputError: there is no value, or one is not finite.

    >>> found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> round(found.low, 2), found.value, round(found.high, 2)
    (1.04, 3.0, 4.96)
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
    half = quantile(n - 1) * float(x.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def share_interval(shares: Sequence[float] | np.ndarray | pd.Series, trials: int) -> Estimate:
    r"""Mean of shares with an interval inside [0, 1], which Student's may leave.

    It is Wilson's interval for a share :math:`p` of m = `n_eff` trials at the quantile
    :math:`q = t_{0.975, n-1}`,

    .. math:: \frac{p + q^2 / 2m \pm q \sqrt{p (1-p)/m + q^2 / 4m^2}}{1 + q^2/m},

    with all trials of all seeds divided by how many times more the seeds differ than independent
    trials would, if they do: :math:`n_\mathrm{eff} = n\, T / \max(1, s^2 T / p(1-p))`.

    Args:
        shares: one per independent seed, (n,), each in [0, 1].
        trials: of each seed, T.

    Raises:
        InputError: no share, or one outside [0, 1]; `trials` not positive.

    Source: Wilson (1927); Kish (1965) for the effective number of trials.

    >>> none = share_interval([0.0, 0.0, 0.0, 0.0, 0.0], trials=8)
    >>> none.value, none.low, round(none.high, 2)
    (0.0, 0.0, 0.16)
    """
    check_count("trials", trials)
    p = mean_interval(shares)
    x = np.asarray(shares, dtype=float)
    if not ((x >= 0) & (x <= 1)).all():
        raise InputError(
            f"shares must lie between 0 and 1, got {x.tolist()}; divide by the trials."
        )
    if p.n == 1:
        return p
    spread = p.value * (1 - p.value)
    effect = max(1.0, float(x.var(ddof=1)) * trials / spread) if spread > 0 else 1.0
    m = p.n * trials / effect
    q = quantile(p.n - 1)
    middle = (p.value + q**2 / (2 * m)) / (1 + q**2 / m)
    half = q * math.sqrt(spread / m + q**2 / (4 * m**2)) / (1 + q**2 / m)
    return Estimate(p.value, max(0.0, middle - half), min(1.0, middle + half), p.n)


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
    return mean_interval(np.log(a / b)).map(bounded_exp)


def bounded_exp(x: float) -> float:
    """The exponential, without an overflow: an end of an interval of two seeds may be huge.

    >>> bounded_exp(0.0), bounded_exp(1e4) < math.inf
    (1.0, True)
    """
    return math.exp(min(x, 700.0))


@dataclass(frozen=True)
class Scale:
    """Where intervals of an estimate are symmetric, or nearly so.

    Attributes:
        to: from numbers to the scale.
        back: from the scale to numbers.
        normal: whether interval ends are normal quantiles there, not Student's with n - 1.
    """

    to: Callable[[float], float]
    back: Callable[[float], float]
    normal: bool = False


def _fisher(correlation: float) -> float:
    nearly = math.nextafter(1, 0)
    return math.atanh(max(min(correlation, nearly), -nearly))  # in this order NaN stays NaN


LINEAR = Scale(float, float)
LOG = Scale(math.log, bounded_exp)  # of ratios
FISHER = Scale(_fisher, math.tanh, normal=True)  # of correlations


def simultaneous(estimate: Estimate, tests: int, scale: Scale = LOG) -> Estimate:
    """The estimate with an interval so wide that `tests` of them hold together (Bonferroni).

    On its scale each end moves away from the value by the ratio of the quantiles at `tail(tests)`
    and at `tail()`. Without an interval there is nothing to widen.

    Args:
        estimate: with its plain interval, such as from `ratio`.
        tests: number of intervals, at least 1.
        scale: `LOG` for ratios, `LINEAR` for means, `FISHER` for correlations.

    >>> wide = simultaneous(Estimate(2.0, 1.0, 4.0, 10), tests=5)
    >>> round(wide.low, 2), wide.value, round(wide.high, 2)
    (0.74, 2.0, 5.41)
    """
    check_count("tests", tests)
    if estimate.n < 2:
        return estimate
    freedom = math.inf if scale.normal else estimate.n - 1
    factor = quantile(freedom, tests) / quantile(freedom)
    value = scale.to(estimate.value)

    def moved(end: float) -> float:
        return scale.back(value + factor * (scale.to(end) - value))

    return Estimate(estimate.value, moved(estimate.low), moved(estimate.high), estimate.n)
