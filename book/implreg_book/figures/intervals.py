"""Figures of estimates with their intervals: ratios to a reference, and correlations."""

import math
from collections.abc import Mapping

from matplotlib.lines import Line2D

from implreg.errors import InputError
from implreg.figures.display import CATEGORIES, MINUS, MUTED, Figure, legend, show, style
from implreg_book.evidence import rules
from implreg_book.evidence.statistics import Estimate
from implreg_book.figures.axes import letter_panels, log_axis, name_rows, with_interval

Estimates = Mapping[str, Mapping[str, Estimate]]

_MOST = 4  # panels


def plot_ratios(ratios: Estimates, *, reference: str = "reference") -> Figure:
    """Ratios to a reference, one row per condition and one panel per quantity, on a log axis.

    Intervals that contain 1 are drawn with hollow dots, those apart from 1 with full ones.

    Args:
        ratios: by quantity in words, by condition, its ratio to the reference with its interval;
            conditions without an estimate (n = 0) are named as such. At most four quantities.
        reference: what the denominator is, in words.

    Raises:
        InputError: no quantity, more than four, or quantities with different conditions.
    """
    return _plot("ratio", ratios, 1, what=f"ratios to the {reference}")


def plot_correlations(correlations: Estimates, *, of: str) -> Figure:
    """Correlations, one row per measure and one panel per set of runs, from -1 to 1.

    Intervals that contain 0 are drawn with hollow dots, those apart from 0 with full ones.

    Args:
        correlations: by set of runs in words, by measure, its correlation with its interval;
            measures without an estimate (n = 0) are named as such. At most four sets.
        of: what is correlated with what, in words.

    Raises:
        InputError: no set, more than four, or sets with different measures.
    """
    return _plot("correlation", correlations, 0, what=of)


def _plot(kind: str, groups: Estimates, at: int, *, what: str) -> Figure:
    rows = list(next(iter(groups.values()), {}))
    if not rows or len(groups) > _MOST or any(list(found) != rows for found in groups.values()):
        names = {name: list(found) for name, found in groups.items()}
        raise InputError(
            f"{kind}s must hold one to {_MOST} mappings with the same rows, at least one, got "
            f"{names}; compute them alike."
        )
    canvas, panels = letter_panels(len(groups), height=1.3 + 0.36 * len(rows), sharey=True)
    told = []
    with style():
        for i, (panel, (name, found)) in enumerate(zip(panels, groups.items(), strict=True)):
            letter = f"{'abcd'[i]}  " if len(groups) > 1 else ""
            panel.set_title(f"{letter}{name}", loc="left", fontsize=11)
            panel.axvline(at, color=MUTED, linewidth=1.4)
            words = []
            for k, (row, x) in enumerate(found.items()):
                if not x.n or math.isnan(x.value):
                    left = panel.get_yaxis_transform()  # x as a share of the panel
                    panel.text(0.02, k, "no run", va="center", color=MUTED, transform=left)
                    words.append(f"{row} no run")
                    continue
                face = CATEGORIES[0] if rules.apart(x, at) else "none"
                panel.plot([x.low, x.high], [k, k], color=CATEGORIES[0], linewidth=2.4)
                panel.plot(x.value, k, "o", color=CATEGORIES[0], markerfacecolor=face,
                           markersize=7.5, zorder=4)  # fmt: skip
                words.append(f"{row} {with_interval(x)}")
            told.append(f"{name}: {', '.join(words)}")
            panel.set_xlabel(kind)
            name_rows(panel, rows)
            if at:
                log_axis(panel, "x")
            else:
                panel.set_xlim(-1, 1)
                ticks = (-0.5, 0, 0.5)
                panel.set_xticks(ticks, [f"{x:g}".replace("-", MINUS) for x in ticks])
        handles = [
            Line2D([], [], color=CATEGORIES[0], marker="o", label=f"interval apart from {at}"),
            Line2D([], [], color=CATEGORIES[0], marker="o", markerfacecolor="none",
                   label=f"interval contains {at}"),
        ]  # fmt: skip
        legend(canvas, handles)
    alt = f"Dot plot of {what} for {len(rows)} rows, with intervals. {'; '.join(told)}."
    return show(canvas, alt=alt)
