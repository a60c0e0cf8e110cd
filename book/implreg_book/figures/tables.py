"""Figures of tidy tables: one row per seed and case, columns given by name."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from implreg.checks import check_choice
from implreg.errors import InputError
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
from implreg_book.evidence.statistics import Estimate, mean_interval
from implreg_book.figures.axes import letter_panels, log_axis, name_rows, scale, with_interval

THEORY = "theory (no fitted parameter)"


def plot_against(
    table: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    by: str | None = None,
    theory: pd.DataFrame | None = None,
    log: str = "",
    xlabel: str | None = None,
    ylabel: str | Sequence[str] | None = None,
) -> Figure:
    """Quantities against a number: seeds as faint lines, their mean, and its 95 % interval.

    Args:
        table: one row per x, group and `seed`, the column that tells independent repetitions
            apart; rows that share all three are averaged. Intervals are Student's, over seeds.
        x: column of the horizontal axis.
        y: column of the vertical axis; several make one panel each.
        by: column whose values are the groups, at most 6, one colour and marker each.
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
    positive = [*([x] if "x" in log else []), *(ys if "y" in log else [])]
    _check_table("table", table, numbers=[x, *ys], others=["seed", *keys], positive=positive)
    if theory is not None:
        told = [column for column in ys if column in theory] or ys
        _check_table("theory", theory, numbers=[x, *told], positive=positive)
    groups = _groups(table, by)
    names = {group: by and f"{_words(by)} {_name(group)}" for group in groups}
    looks = dict(zip(groups, zip(_colours(groups), MARKERS, strict=False), strict=True))
    canvas, panels = letter_panels(len(ys), height=3.1)
    x_name = xlabel or _words(x)
    sentences = []
    with style():
        for panel, column, label in zip(panels, ys, labels, strict=True):
            panel.set_xlabel(x_name)
            panel.set_ylabel(label)
            findings = []
            for group, rows in groups.items():
                runs = rows.groupby(["seed", x])[column].mean().unstack()
                means = _draw_runs(panel, runs, *looks[group])
                finding = _trend(means, plain(x_name), fitted=log == "xy")
                if theory is not None and column in theory:
                    own = theory if by not in theory else theory[theory[by] == group]
                    finding += _draw_theory(panel, own.groupby(x)[column].mean(), means)
                findings.append(f"{names[group]} {finding}" if by else finding)
            sentences.append(f"{plain(label)}: {'; '.join(findings)}.")
            apart = 0.11 if len(ys) == 1 else 0.22
            scale(panel, log, sorted(table[x].unique()), smallest=table[column].min(), apart=apart)
        handles = [
            Line2D([], [], color=colour, marker=marker, label=names[group])
            for group, (colour, marker) in looks.items()
            if by
        ]
        if theory is not None:
            handles.append(Line2D([], [], color=INK, ls="--", linewidth=1.6, label=THEORY))
        legend(canvas, handles)
    kind = {"": "", "xy": " with logarithmic axes"}.get(log, f" with logarithmic {log} axis")
    low, high = number(table[x].min()), number(table[x].max())
    dashed = "" if theory is None else ", theory dashed"
    alt = (
        f"Line plot{kind} against {plain(x_name)} from {low} to {high}, {_seed_count(table)}"
        f"{dashed}. {' '.join(s[0].upper() + s[1:] for s in sentences)}"
    )
    return show(canvas, alt=alt)


def plot_compare(
    table: pd.DataFrame,
    group: str,
    y: str | Sequence[str],
    *,
    log: bool = False,
    ylabel: str | Sequence[str] | None = None,
) -> Figure:
    """Categories one below the other: each seed as a dot, the mean, and its 95 % interval.

    Args:
        table: one row per group and `seed`, the column that tells independent repetitions apart;
            rows that share both are averaged. Groups stand in the order of their first row.
        group: column of the categories.
        y: column of the measured quantity, along the horizontal axis; several make one panel each.
        log: whether the horizontal axis is logarithmic.
        ylabel: of the horizontal axes, one per `y`; by default the columns' names.

    Raises:
        InputError: a column that is not there or not of finite numbers, or values of 0 or less on a
            logarithmic axis.
    """
    ys, labels = _names(y, ylabel)
    _check_table("table", table, numbers=ys, others=[group, "seed"], positive=ys if log else ())
    rows = dict(iter(table.groupby(group, sort=False)))
    canvas, panels = letter_panels(len(ys), height=1.2 + 0.42 * len(rows), sharey=True)
    sentences = []
    with style():
        for panel, column, label in zip(panels, ys, labels, strict=True):
            findings = []
            for i, (name, part) in enumerate(rows.items()):
                values = part.groupby("seed")[column].mean().to_numpy()
                spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0.0]
                panel.plot(values, i + np.asarray(spread), "o", color=CATEGORIES[0],
                           alpha=0.4, markersize=4.5, markeredgewidth=0)  # fmt: skip
                mean = mean_interval(values)
                panel.plot([mean.low, mean.high], [i, i], color=CATEGORIES[0], linewidth=3)
                panel.plot(mean.value, i, "D", color=CATEGORIES[0], markersize=7.5)
                findings.append(f"{_name(name)} {with_interval(mean)}")
            sentences.append(f"{plain(label)}: {_listed(findings)}")
            panel.set_xlabel(label)
            name_rows(panel, [_name(name) for name in rows])
            if log:
                log_axis(panel, "x")
    alt = (
        f"Dot plot of {len(rows)} values of {_words(group)}, {_seed_count(table)}. Means "
        f"with 95 % intervals: {'; '.join(sentences)}."
    )
    return show(canvas, alt=alt)


def plot_z(table: pd.DataFrame, *, case: str = "case", by: str | None = None) -> Figure:
    """Measured against predicted: z-scores case by case, and the band from -3 to 3.

    Args:
        table: one row per case, in the order to draw them; its column `z` holds
            (measured - predicted) / standard error.
        case: column that names the cases.
        by: column of the quantity that is compared, at most 6, one colour and marker each.

    Raises:
        InputError: a column that is not there or not of finite numbers, or more than 6 quantities.
    """
    _check_table("table", table, numbers=["z"], others=[case] if by is None else [case, by])
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
            (dots,) = panel.plot(part.z, height, MARKERS[i], color=CATEGORIES[i], markersize=8,
                                 label=_name(name))  # fmt: skip
            handles.append(dots)
        name_rows(panel, [_name(c) for c in cases])
        panel.set_xlabel(f"z: measured {MINUS} predicted, in standard errors")
        reach = max(4.0, 1.1 * float(table.z.abs().max()))
        panel.set_xlim(-reach, reach)
        band = Patch(color=MUTED, alpha=0.3, linewidth=0, label="within 3 standard errors")
        legend(canvas, [*(handles if by else []), band])
    worst = table.iloc[int(table.z.abs().to_numpy().argmax())]
    inside = int((table.z.abs() <= 3).sum())
    where = _name(worst[case]) if by is None else f"{_name(worst[by])}, {_name(worst[case])}"
    alt = (
        f"Dot plot of {len(table)} z-scores, measured minus predicted over standard error, for "
        f"{_listed([_name(c) for c in cases])}. {inside} of {len(table)} lie within {MINUS}3 to "
        f"3; the largest in size is {number(worst.z)} ({where})."
    )
    return show(canvas, alt=alt)


# ---------------------------------------------------------------- drawing


def _draw_runs(panel: Axes, runs: pd.DataFrame, colour: str, marker: str) -> pd.DataFrame:
    """Draw the runs (one row per seed, one column per x); return their mean, an estimate, per x."""
    for _, run in runs.iterrows():
        run = run.dropna()
        panel.plot(run.index, run, color=colour, alpha=0.28, linewidth=0.9, zorder=2)
    means = pd.DataFrame([vars(mean_interval(runs[c].dropna())) for c in runs], index=runs.columns)
    few = len(means) <= 12
    panel.fill_between(means.index, means["low"], means["high"], color=colour, alpha=0.2,
                       linewidth=0)  # fmt: skip
    panel.plot(means.index, means["value"], color=colour, linewidth=2.2, zorder=3,
               marker=marker if few else "")  # fmt: skip
    if few:
        panel.vlines(means.index, means["low"], means["high"], color=colour, linewidth=1.6)
    return means


def _draw_theory(panel: Axes, line: pd.Series, means: pd.DataFrame) -> str:
    """Draw a line of theory and say how far the means are from it."""
    panel.plot(line.index, line, "--", color=INK, linewidth=1.6, zorder=4)
    both = means.index.intersection(line[line != 0].index)
    if not len(both):
        return ""
    off = (means["value"][both] / line[both] - 1).abs().max()
    return f", at most {100 * off:.2g} % from theory"


def _colours(groups: dict[Any, pd.DataFrame]) -> list[str]:
    """Steps for groups that are numbers, as far apart as there are groups; else categories."""
    ordered = len(groups) > 1 and all(isinstance(g, int | float | np.number) for g in groups)
    if not ordered:
        return CATEGORIES[: len(groups)]
    return [STEPS[i] for i in np.linspace(0, len(STEPS) - 1, len(groups)).round().astype(int)]


# ---------------------------------------------------------------- numbers and words


def _trend(means: pd.DataFrame, x: str, *, fitted: bool) -> str:
    first, last = Estimate(*means.iloc[0]), Estimate(*means.iloc[-1])
    text = f"from {with_interval(first)} to {with_interval(last)}"
    if fitted and len(means) > 2:
        exponent = np.polyfit(np.log(means.index.astype(float)), np.log(means["value"]), 1)[0]
        return f"{text}, about as {x} to the power {number(round(exponent, 2) + 0.0)}"
    at, mean = means.index.to_numpy(float), means["value"].to_numpy(float)
    if mean.max() > max(first.high, last.high):
        text += f", highest {number(mean.max())} at {number(at[mean.argmax()])}"
    if mean.min() < min(first.low, last.low):
        text += f", lowest {number(mean.min())} at {number(at[mean.argmin()])}"
    return text


def _seed_count(table: pd.DataFrame) -> str:
    seeds = table["seed"].nunique()
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
    name: str,
    table: pd.DataFrame,
    *,
    numbers: Sequence[str],
    others: Sequence[str] = (),
    positive: Collection[str] = (),
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
        bad = int((values <= 0).sum())
        if bad and column in positive:
            raise InputError(
                f"{name}[{column!r}] must be above 0 on a logarithmic axis, but {bad} of its "
                f"{len(table)} rows are not; leave them out or change log."
            )


def _groups(table: pd.DataFrame, by: str | None) -> dict[Any, pd.DataFrame]:
    """The rows of each group, in order of number or else of first row."""
    if by is None:
        return {"": table}
    groups = dict(iter(table.groupby(by, sort=pd.api.types.is_numeric_dtype(table[by]))))
    if len(groups) > len(MARKERS):
        raise InputError(
            f"table[{by!r}] must have at most {len(MARKERS)} different values to be told apart, "
            f"got {len(groups)}; leave some out."
        )
    return groups
