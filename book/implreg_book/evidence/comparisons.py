"""Conditions compared with a reference, seed by seed, with intervals for many tests at once."""

from collections.abc import Mapping

import pandas as pd

from implreg.errors import InputError
from implreg_book.evidence.statistics import NONE, Estimate, ratio, simultaneous


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
        table: as of `implreg_book.experiments.ablations.run`, with `condition`, `seed`,
            `target_loss` and `reached`.
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
