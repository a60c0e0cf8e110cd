"""Figures of tidy tables: one row per seed and case, columns given by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from implreg.checks import check_choice
from implreg.errors import InputError
from implreg.figures.axes import letter_panels, log_axis, name_rows, scale
from implreg.figures.display import (
    CATEGORIES,
    INK,
    MARKERS,
    MINUS,
    MUTED,
    STEPS,
    Figure,
    legend,
    number,
    plain,
    show,
    style,
)
from implreg.statistics import mean_interval

Floats = NDArray[np.float64]
THEORY = "theory (no fitted parameter)"


def plot_against(
    table: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    by: str | None = None,
    seed: str = "seed",
    theory: pd.DataFrame | None = None,
    log: str = "",
    xlabel: str | None = None,
    ylabel: str | Sequence[str] | None = None,
) -> Figure:
    """Quantities against a number: seeds as faint lines, their mean, and its 95 % interval.

    Args:
        table: one row per x, group and seed; rows that share all three are averaged.
        x: column of the horizontal axis.
        y: column of the vertical axis; several make one panel each.
        by: column whose values are the groups, at most 6, one colour and marker each.
        seed: column that tells independent repetitions apart. The interval is Student's, over them.
        theory: a table with the columns `x`, some or all of `y` and, if it differs between groups,
            `by`. Drawn as dashed lines.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        xlabel: of the horizontal axis; by default the column's name.
        ylabel: of the vertical axes, one per `y`; by default the columns' names.

    Raises:
        InputError: a column that is not there or not of finite numbers, values of 0 or less on a
            logarithmic axis, more than 6 groups.

    Source: figures 2 to 5 of Kubo et al. (2019) are of this kind.
    """
    ys, labels = _names(y, ylabel)
    check_choice("log", log, ("", "x", "y", "xy"))
    keys = [x] if by is None else [x, by]
    _check_table("table", table, numbers=[x, *ys], others=[seed, *keys])
    drawn = [column for column in ys if theory is not None and column in theory]
    if theory is not None:
        _check_table("theory", theory, numbers=[x, *(drawn or ys)], others=[])
    for name, frame in (("table", table), ("theory", theory)):
        for axis, columns in (("x", [x]), ("y", ys)):
            if frame is not None and axis in log:
                _check_positive(name, frame, [c for c in columns if c in frame])
    groups = _groups(table, by)
    canvas, panels = letter_panels(len(ys), height=3.1)
    x_name = xlabel or _words(x)
    sentences = []
    with style():
        for panel, column, label in zip(panels, ys, labels, strict=True):
            panel.set_xlabel(x_name)
            panel.set_ylabel(label)
            findings = []
            for i, (group, rows) in enumerate(groups.items()):
                colour = _colours(groups)[i]
                runs = _by_seed(rows, x, column, seed)
                means = _draw_runs(panel, runs, colour, MARKERS[i])
                finding = _trend(means, plain(x_name), fitted=log == "xy")
                if column in drawn and theory is not None:
                    curve = theory if by not in theory else theory[theory[by] == group]
                    line = curve.groupby(x)[column].mean()
                    panel.plot(line.index, line, "--", color=INK, linewidth=1.6, zorder=4)
                    finding += _off_theory(means, line)
                findings.append(("" if by is None else f"{_words(by)} {_name(group)} ") + finding)
            sentences.append(f"{plain(label)}: {'; '.join(findings)}.")
            apart = 0.11 if len(ys) == 1 else 0.22
            scale(panel, log, sorted(table[x].unique()), smallest=table[column].min(), apart=apart)
        named = [] if by is None else [f"{_words(by)} {_name(g)}" for g in groups]
        handles = [
            Line2D([], [], color=c, marker=m, label=label)
            for label, c, m in zip(named, _colours(groups), MARKERS, strict=False)
        ]
        if drawn:
            handles.append(Line2D([], [], color=INK, ls="--", linewidth=1.6, label=THEORY))
        legend(canvas, handles)
    kind = {"": "", "xy": " with logarithmic axes"}.get(log, f" with logarithmic {log} axis")
    low, high = number(table[x].min()), number(table[x].max())
    alt = (
        f"Line plot{kind} against {plain(x_name)} from {low} to {high}, {_seed_count(table, seed)}"
        f"{', theory dashed' if drawn else ''}. {' '.join(s[0].upper() + s[1:] for s in sentences)}"
    )
    return show(canvas, alt=alt)


def plot_compare(
    table: pd.DataFrame,
    group: str,
    y: str | Sequence[str],
    *,
    seed: str = "seed",
    theory: pd.DataFrame | None = None,
    log: bool = False,
    ylabel: str | Sequence[str] | None = None,
) -> Figure:
    """Categories one below the other: each seed as a dot, the mean, and its 95 % interval.

    Args:
        table: one row per group and seed; rows that share both are averaged. Groups stand in the
            order of their first row.
        group: column of the categories.
        y: column of the measured quantity, along the horizontal axis; several make one panel each.
        seed: column that tells independent repetitions apart.
        theory: a table with the columns `group` and some or all of `y`; drawn as dashed marks.
        log: whether the horizontal axis is logarithmic.
        ylabel: of the horizontal axes, one per `y`; by default the columns' names.

    Raises:
        InputError: a column that is not there or not of finite numbers, or values of 0 or less on a
            logarithmic axis.
    """
    ys, labels = _names(y, ylabel)
    _check_table("table", table, numbers=ys, others=[group, seed])
    drawn = [column for column in ys if theory is not None and column in theory]
    if theory is not None:
        _check_table("theory", theory, numbers=drawn or ys, others=[group])
    if log:
        _check_positive("table", table, ys)
    rows = _groups(table, group, most=None)
    canvas, panels = letter_panels(len(ys), height=1.2 + 0.42 * len(rows), sharey=True)
    sentences = []
    with style():
        for panel, column, label in zip(panels, ys, labels, strict=True):
            findings = []
            for i, (name, part) in enumerate(rows.items()):
                values = part.groupby(seed)[column].mean().to_numpy()
                spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0.0]
                panel.plot(values, i + np.asarray(spread), "o", color=CATEGORIES[0],
                           alpha=0.4, markersize=4.5, markeredgewidth=0)  # fmt: skip
                mean, low, high = _interval(values)
                panel.plot([low, high], [i, i], color=CATEGORIES[0], linewidth=3)
                panel.plot(mean, i, "D", color=CATEGORIES[0], markersize=7.5)
                finding = f"{_name(name)} {_with_interval(mean, low, high)}"
                if column in drawn and theory is not None:
                    for value in theory.loc[theory[group] == name, column]:
                        panel.plot([value] * 2, [i - 0.34, i + 0.34], "--", color=INK)
                        finding += f" (theory {number(value)})"
                findings.append(finding)
            sentences.append(f"{plain(label)}: {_listed(findings)}")
            panel.set_xlabel(label)
            name_rows(panel, [_name(name) for name in rows])
            if log:
                log_axis(panel, "x")
        if drawn:
            legend(canvas, [Line2D([], [], color=INK, ls="--", linewidth=1.8, label=THEORY)])
    alt = (
        f"Dot plot of {len(rows)} values of {_words(group)}, {_seed_count(table, seed)}. Means "
        f"with 95 % intervals: {'; '.join(sentences)}."
    )
    return show(canvas, alt=alt)


def plot_z(
    table: pd.DataFrame, *, case: str = "case", z: str = "z", by: str | None = None
) -> Figure:
    """Measured against predicted: z-scores case by case, and the band from -3 to 3.

    Args:
        table: one row per case, in the order to draw them.
        case: column that names the cases.
        z: column of (measured - predicted) / standard error.
        by: column of the quantity that is compared, at most 6, one colour and marker each.

    Raises:
        InputError: a column that is not there or not of finite numbers, or more than 6 quantities.
    """
    _check_table("table", table, numbers=[z], others=[case] if by is None else [case, by])
    groups = _groups(table, by)
    cases = list(dict.fromkeys(table[case]))
    canvas, (panel,) = letter_panels(1, height=1.2 + 0.42 * len(cases))
    with style():
        panel.axvspan(-3, 3, color=MUTED, alpha=0.14, linewidth=0)
        panel.axvline(0, color=MUTED, linewidth=1.2)
        offsets = (np.arange(len(groups)) - (len(groups) - 1) / 2) * 0.5 / len(groups)
        handles = []
        for i, (name, part) in enumerate(groups.items()):
            height = [cases.index(c) + offsets[i] for c in part[case]]
            (dots,) = panel.plot(part[z], height, MARKERS[i], color=CATEGORIES[i], markersize=8,
                                 label=_name(name))  # fmt: skip
            handles.append(dots)
        name_rows(panel, [_name(c) for c in cases])
        panel.set_xlabel(f"z: measured {MINUS} predicted, in standard errors")
        reach = max(4.0, 1.1 * float(table[z].abs().max()))
        panel.set_xlim(-reach, reach)
        band = Patch(color=MUTED, alpha=0.3, linewidth=0, label="within 3 standard errors")
        legend(canvas, [*(handles if by else []), band])
    worst = table.iloc[int(table[z].abs().to_numpy().argmax())]
    inside = int((table[z].abs() <= 3).sum())
    where = _name(worst[case]) if by is None else f"{_name(worst[by])}, {_name(worst[case])}"
    alt = (
        f"Dot plot of {len(table)} z-scores, measured minus predicted over standard error, for "
        f"{_listed([_name(c) for c in cases])}. {inside} of {len(table)} lie within {MINUS}3 to "
        f"3; the largest in size is {number(worst[z])} ({where})."
    )
    return show(canvas, alt=alt)


# ---------------------------------------------------------------- drawing


def _draw_runs(panel: Axes, runs: pd.DataFrame, colour: str, marker: str) -> pd.DataFrame:
    """Draw the runs (one row per seed, one column per x); return mean, low, high per x."""
    for _, run in runs.iterrows():
        run = run.dropna()
        panel.plot(run.index, run, color=colour, alpha=0.28, linewidth=0.9, zorder=2)
    means = pd.DataFrame(
        [_interval(runs[c].dropna().to_numpy()) for c in runs],
        index=runs.columns, columns=["mean", "low", "high"],
    )  # fmt: skip
    few = len(means) <= 12
    panel.fill_between(means.index, means["low"], means["high"], color=colour, alpha=0.2,
                       linewidth=0)  # fmt: skip
    panel.plot(means.index, means["mean"], color=colour, linewidth=2.2, zorder=3,
               marker=marker if few else "")  # fmt: skip
    if few:
        panel.vlines(means.index, means["low"], means["high"], color=colour, linewidth=1.6)
    return means


def _colours(groups: dict[Any, pd.DataFrame]) -> list[str]:
    """Steps for groups that are numbers, as far apart as there are groups; else categories."""
    ordered = len(groups) > 1 and all(isinstance(g, int | float | np.number) for g in groups)
    if not ordered:
        return CATEGORIES[: len(groups)]
    return [STEPS[i] for i in np.linspace(0, len(STEPS) - 1, len(groups)).round().astype(int)]


# ---------------------------------------------------------------- numbers and words


def _by_seed(rows: pd.DataFrame, x: str, y: str, seed: str) -> pd.DataFrame:
    return rows.groupby([seed, x])[y].mean().unstack()


def _interval(values: Floats) -> tuple[float, float, float]:
    """Mean and 95 % interval; NaN where a single seed has none."""
    estimate = mean_interval(values)
    return estimate.value, estimate.low, estimate.high


def _with_interval(mean: float, low: float, high: float) -> str:
    return number(mean) if np.isnan(low) else f"{number(mean)} ({number(low)} to {number(high)})"


def _trend(means: pd.DataFrame, x: str, *, fitted: bool) -> str:
    first, last = means.iloc[0], means.iloc[-1]
    text = f"from {_with_interval(*first)} to {_with_interval(*last)}"
    if fitted and len(means) > 2:
        exponent = np.polyfit(np.log(means.index.astype(float)), np.log(means["mean"]), 1)[0]
        return f"{text}, about as {x} to the power {number(round(exponent, 2) + 0.0)}"
    at, mean = means.index.to_numpy(float), means["mean"].to_numpy(float)
    if mean.max() > max(first["high"], last["high"]):
        text += f", highest {number(mean.max())} at {number(at[mean.argmax()])}"
    if mean.min() < min(first["low"], last["low"]):
        text += f", lowest {number(mean.min())} at {number(at[mean.argmin()])}"
    return text


def _off_theory(means: pd.DataFrame, line: pd.Series) -> str:
    both = means.index.intersection(line[line != 0].index)
    if not len(both):
        return ""
    off = (means["mean"][both] / line[both] - 1).abs().max()
    return f", at most {100 * off:.2g} % from theory"


def _seed_count(table: pd.DataFrame, seed: str) -> str:
    seeds = table[seed].nunique()
    return f"{seeds} seeds with their mean and 95 % interval" if seeds > 1 else "one seed"


def _name(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, int | float | np.number) else str(value)


def _words(column: str) -> str:
    return column.replace("_", " ")


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


# ---------------------------------------------------------------- checks


def _names(
    y: str | Sequence[str], ylabel: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    ys = [y] if isinstance(y, str) else list(y)
    labels = [ylabel] if isinstance(ylabel, str) else list(ylabel or map(_words, ys))
    if not ys or len(labels) != len(ys):
        raise InputError(
            f"ylabel must name each of the {len(ys)} columns y, got {len(labels)} labels; give "
            f"one label per column."
        )
    return ys, labels


def _check_table(
    name: str, table: pd.DataFrame, *, numbers: Sequence[str], others: Sequence[str]
) -> None:
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise InputError(
            f"{name} must be a pandas DataFrame with at least one row, got "
            f"{'an empty one' if isinstance(table, pd.DataFrame) else type(table).__name__}; pass "
            f"a tidy table."
        )
    for column in (*numbers, *others):
        if column not in table:
            raise InputError(
                f"{name} must have a column {column!r}, but its columns are "
                f"{', '.join(map(str, table.columns))}; name one of them."
            )
    for column in numbers:
        values = pd.to_numeric(table[column], errors="coerce")
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise InputError(
                f"{name}[{column!r}] must hold finite numbers, but {bad} of its {len(table)} rows "
                f"do not; leave those rows out."
            )


def _check_positive(name: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        bad = int((table[column] <= 0).sum())
        if bad:
            raise InputError(
                f"{name}[{column!r}] must be above 0 on a logarithmic axis, but {bad} of its "
                f"{len(table)} rows are not; leave them out or change log."
            )


def _groups(
    table: pd.DataFrame, by: str | None, most: int | None = len(MARKERS)
) -> dict[Any, pd.DataFrame]:
    """The rows of each group, in order of number or else of first row."""
    if by is None:
        return {"": table}
    names = list(dict.fromkeys(table[by]))
    if most is not None and len(names) > most:
        raise InputError(
            f"table[{by!r}] must have at most {most} different values to be told apart, got "
            f"{len(names)}; leave some out."
        )
    if most is not None and pd.api.types.is_numeric_dtype(table[by]):
        names.sort()
    return {name: table[table[by] == name] for name in names}
