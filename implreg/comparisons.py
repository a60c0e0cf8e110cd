"""Conditions compared with a reference, seed by seed, with intervals for many tests at once."""

import math
from collections.abc import Mapping

import pandas as pd
from scipy import stats

from implreg.checks import check_count
from implreg.errors import InputError
from implreg.statistics import CONFIDENCE, Estimate, ratio

NONE = Estimate(math.nan, math.nan, math.nan, 0)
SAME = 1.1  # ratios from 1 / SAME to SAME count as the same


def simultaneous(estimate: Estimate, tests: int) -> Estimate:
    r"""The interval of a ratio of geometric means, widened so that `tests` of them hold together.

    Student's quantile :math:`t_{1 - 0.025}` becomes :math:`t_{1 - 0.025 / m}` (Bonferroni): all m
    intervals contain their true values at once in at least 95 % of all repetitions.

    Args:
        estimate: from `implreg.statistics.ratio`; its interval is symmetric on a logarithmic scale.
        tests: m, at least 1.

    >>> wide = simultaneous(Estimate(2.0, 1.0, 4.0, 10), tests=5)
    >>> round(wide.low, 2), wide.value, round(wide.high, 2)
    (0.74, 2.0, 5.41)
    """
    check_count("tests", tests)
    if estimate.n < 2:
        return estimate
    tail = (1 - CONFIDENCE) / 2
    factor = stats.t.ppf(1 - tail / tests, estimate.n - 1) / stats.t.ppf(1 - tail, estimate.n - 1)
    reach = (estimate.high / estimate.value) ** factor
    return Estimate(
        estimate.value, float(estimate.value / reach), float(estimate.value * reach), estimate.n
    )


def paired_ratios(
    table: pd.DataFrame,
    quantity: str,
    *,
    reference: str,
    by: str = "condition",
    seed: str = "seed",
    tests: int = 1,
) -> dict[str, Estimate]:
    """By condition, the geometric mean over seeds of a quantity over that of the reference.

    A seed counts for a condition if both its runs have the quantity. A condition without such a
    seed has an estimate of NaN with n = 0: say on the page how many runs are missing and why.

    Args:
        table: one row per condition and seed, in the order wanted; the quantity positive, or NaN
            where a run does not have it.
        quantity: column.
        reference: name of the condition to divide by.
        by: column of the conditions.
        seed: column of the seeds.
        tests: number of intervals that shall hold at once, see `simultaneous`.

    Raises:
        InputError: no run of the reference has the quantity, a condition has a seed twice, or a
            number that is not positive.

    >>> table = pd.DataFrame({"condition": ["a", "a", "b", "b"], "seed": [0, 1, 0, 1],
    ...                       "x": [1.0, 2.0, 3.0, 6.0]})
    >>> paired_ratios(table, "x", reference="a")["b"].value
    3.0...
    """
    if table.duplicated([by, seed]).any():
        raise InputError(
            f"table must have one row per {by} and {seed}, but some are there twice; select one "
            f"target or average them."
        )
    if (table[quantity] <= 0).any():
        raise InputError(
            f"table[{quantity!r}] must be positive to form ratios, got "
            f"{table[quantity].min():.4g}; compare differences, or another quantity."
        )
    wide = table.pivot(index=seed, columns=by, values=quantity)
    if reference not in wide or not wide[reference].notna().any():
        raise InputError(
            f"reference must be a {by} of which some run has {quantity}, got {reference!r}, of "
            f"which none has; raise the target loss or the epochs."
        )
    found = {}
    for name in dict.fromkeys(table[by]):
        if name == reference:
            continue
        both = wide[[name, reference]].dropna()
        found[name] = simultaneous(ratio(both[name], both[reference]), tests) if len(both) else NONE
    return found


def ratios_at(
    table: pd.DataFrame,
    loss: float,
    quantities: Mapping[str, str],
    *,
    reference: str,
    tests: int = 1,
) -> dict[str, dict[str, Estimate]]:
    """By quantity, by condition, `paired_ratios` of the runs that reached a training loss.

    Args:
        table: as of `implreg.experiments.ablations.run`, with `condition`, `seed`, `target_loss`
            and `reached`.
        loss: one of its target losses.
        quantities: columns, and what they are called.
        reference: condition to divide by.
        tests: number of intervals that shall hold at once, see `simultaneous`.

    Raises:
        InputError: as `paired_ratios`.

    >>> table = pd.DataFrame({"condition": ["a", "b"] * 2, "seed": [0, 0, 1, 1], "x": 1.0,
    ...                       "target_loss": 0.1, "reached": [True, True, True, False]})
    >>> ratios_at(table, 0.1, {"x": "size"}, reference="a")["size"]["b"].n
    1
    """
    there = table[table.target_loss == loss]
    there = there.assign(**there[list(quantities)].where(there.reached))
    return {
        name: paired_ratios(there, column, reference=reference, tests=tests)
        for column, name in quantities.items()
    }


def in_words(ratio: Estimate) -> str:
    """What the interval of a ratio says: "larger", "smaller", "the same within 10 %", "undecided".

    The same, if all of it lies between 1 / 1.1 and 1.1, whatever side of 1 it is on; "no run" and
    "one run" if there is no interval.

    >>> in_words(Estimate(1.3, 1.2, 1.4, 8)), in_words(Estimate(1.02, 1.01, 1.03, 8))
    ('larger', 'the same within 10 %')
    """
    if ratio.n < 2:
        return "one run" if ratio.n else "no run"
    if ratio.low >= 1 / SAME and ratio.high <= SAME:
        return "the same within 10 %"
    if 1 in ratio:
        return "undecided"
    return "larger" if ratio.low > 1 else "smaller"
