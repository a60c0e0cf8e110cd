"""What chapters share that compare networks at the same training loss."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from implreg.errors import InputError
from implreg_book.chapters.missing import mean
from implreg_book.evidence import rules, words
from implreg_book.evidence.correlation import rank_correlation
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import LINEAR, NONE, Estimate, simultaneous
from implreg_book.experiments import ablations

Ratios = dict[str, dict[str, Estimate]]  # by quantity, by condition
# What is written of a run, besides whether it reached the loss; one that diverged has none of it.
MEASURES = (
    "deflection",
    "mid_path_deflection",
    "normalized_deflection",
    "total_variation",
    "fluctuation",
    "edge_margin",
    "switches",
    "distance",
    "train_loss",
    "train_error",
    "test_error",
)
UNTESTED = (
    "Here too few networks reached the loss, or they have learned too little, for such tests."
)
SINGLE = "With one network of each kind there are no intervals, so that no ratio decides anything."
_WIDEST = 200.0  # logarithm of a ratio
NO_CORRELATION = "not to be had (too few or too similar networks reached the loss)"


def completed(table: pd.DataFrame, columns: Sequence[str] = MEASURES) -> pd.DataFrame:
    """A table with all columns, also those that none of its runs has, and without infinity."""
    full = table.reindex(columns=list(dict.fromkeys([*table, *columns])))
    full = full.replace([np.inf, -np.inf], np.nan)
    if "edge_margin" in full:
        full["straightness"] = full.fluctuation / full.edge_margin.where(full.edge_margin != 0)
    return full


def ratios(
    table: pd.DataFrame,
    quantities: Mapping[str, str],
    names: Sequence[str],
    base: str = ablations.REFERENCE,
    *,
    tests: int = 1,
) -> Ratios:
    """By quantity, by condition, the ratio to another one, of the runs that reached a loss.

    A condition has no ratio if one of its runs has a number that is not positive, such as an edge
    margin where ends are classified wrongly: to leave out that run alone would choose among seeds.

    Args:
        table: one row per condition and seed, at one target loss.
        quantities: columns, and what they are called.
        names: conditions to compare.
        base: condition to divide by.
        tests: number of intervals that shall hold at once.
    """
    there = table[table.condition.isin([base, *names])]
    found = {}
    for column, name in quantities.items():
        values = there[column].where(there.reached)
        values = values.mask(there.condition.isin(there.condition[values <= 0]))
        found[name] = dict.fromkeys(names, NONE)
        wide = there.assign(value=values).pivot(index="seed", columns="condition", values="value")
        for other in names:
            if {other, base} <= set(wide):
                found[name][other] = _ratio(wide[other] / wide[base], tests)
    return found


def _ratio(ratios: pd.Series, tests: int) -> Estimate:
    """Their geometric mean; the interval of two seeds may be wider than numbers are."""
    logs = np.log(ratios.dropna())
    wide = simultaneous(mean(logs), tests, LINEAR)
    return wide.map(lambda x: float(np.exp(np.clip(x, -_WIDEST, _WIDEST))))


def mean_ratio(rows: pd.DataFrame, above: str, below: str) -> Estimate:
    """Geometric mean of the ratio of two columns, over the rows of each seed and then over seeds.

    >>> rows = pd.DataFrame({"seed": [0, 0, 1, 1], "x": [1.0, 4.0, 2.0, 2.0], "y": 1.0})
    >>> round(mean_ratio(rows, "x", "y").value, 12)
    2.0
    """
    fine = rows[(rows[above] > 0) & (rows[below] > 0)]
    logs = (fine[above] / fine[below]).map(math.log)
    return _ratio(logs.groupby(fine.seed).mean().map(math.exp), 1)


def means(rows: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Means by condition as a table has them, nothing where there is none; errors in per cent.

    Args:
        rows: of networks.
        columns: by name, a column and the format of its numbers.
    """
    groups = rows.groupby("condition")
    made = {}
    for name, (column, digits) in columns.items():
        unit = 100 if column.endswith("error") else 1
        made[name] = [
            "" if math.isnan(x) else f"{unit * x:{digits}}" for x in groups[column].mean()
        ]
    return pd.DataFrame(made, index=pd.Index(list(groups.groups)))


def correlated(
    rows: pd.DataFrame, x: str, y: str, *, given: str | None = None, tests: int = 1
) -> Estimate:
    """The rank correlation of two columns over conditions, `NONE` if there is no interval.

    It is that of `implreg_book.evidence.correlation.rank_correlation`.
    """
    rows = rows.dropna(subset=[x, y, *([given] if given else [])])
    if rows.condition.nunique() < 2:
        return NONE
    other = rows[given] if given else None
    try:
        found = rank_correlation(rows[x], rows[y], rows.condition, given=other, tests=tests)
    except InputError:  # a column is constant, or fixed by the other
        return NONE
    return NONE if math.isnan(found.low) else found


def judged(
    tested: bool, parts: Iterable[tuple[Callable[[Estimate], Outcome], Estimate]]
) -> Outcome:
    """A hypothesis of several parts, each a rule and what it judges; not tested without any runs.

    Args:
        tested: whether networks have learned.
        parts: the rules and the estimates.
    """
    found = list(parts)
    if not (tested and any(estimate.n for _, estimate in found)):
        return Outcome.NOT_TESTED
    return rules.together(rule(estimate) for rule, estimate in found)


def reservation(outcomes: Iterable[Outcome], seeds: int) -> str:
    """A sentence on what keeps hypotheses from being decided; "" if nothing does."""
    if all(outcome is Outcome.NOT_TESTED for outcome in outcomes):
        return UNTESTED
    return SINGLE if seeds == 1 else ""


def times(ratio: Estimate) -> str:
    r"""A ratio on its way into "it is ... that of the reference".

    >>> times(Estimate(2.0, 1.5, 2.5, 8)), times(NONE)
    ('2.00 [1.50,\xa02.50] times', 'not to be compared, for want of runs, with')
    """
    return f"{shown(ratio)} times" if ratio.n else "not to be compared, for want of runs, with"


def shown(ratio: Estimate) -> str:
    """A ratio with its interval, if that tells anything.

    >>> shown(Estimate(2.0, 1e-9, 1e9, 2))
    '2.00 (wide interval)'
    """
    wide = ratio.high > 1000 * ratio.value
    return f"{ratio.value:.2f} (wide interval)" if wide else f"{ratio:.2f}"


def both(name: str, ratio: Estimate) -> dict[str, object]:
    """A ratio and what its interval says, under a name for the prose."""
    return {name: times(ratio), f"{name}-word": rules.in_words(ratio)}


def cell(ratio: Estimate) -> str:
    """A ratio, and what its interval says, in a table."""
    return f"{shown(ratio)} {rules.in_words(ratio)}" if ratio.n else "no run"


def correlation(estimate: Estimate) -> str:
    """A rank correlation in words."""
    return f"{estimate:.2f}" if estimate.n else NO_CORRELATION


def arrival(last: pd.DataFrame, loss: float, time: str) -> str:
    """A sentence on how many runs reached a loss, and what became of the others.

    Args:
        last: one row per run, with `reached` and `diverged`.
        loss: that they were to reach.
        time: how long the others had.
    """
    lost, diverged = int((~last.reached).sum()), int(last.diverged.sum())
    count = words.how_many(len(last) - lost, len(last), "runs")
    fate = [
        f"{diverged:,} diverged, that is, the loss became infinite" * bool(diverged),
        f"{lost - diverged:,} stayed above it for {time}" * (lost > diverged),
    ]
    others = f"; {' and '.join(filter(None, fate))}" if lost else ""
    leave = " Such runs leave the comparison together with the run of the same seed that they "
    leave += "would be compared with."
    return f"The loss {loss:g} was reached by {count}{others}.{leave * bool(lost)}"
