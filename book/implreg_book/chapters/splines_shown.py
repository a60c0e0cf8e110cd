"""Figures and tables of the chapter "One dimension"."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from implreg.figures.display import (
    CATEGORIES,
    INK,
    MUTED,
    Figure,
    legend,
    new_figure,
    number,
    show,
    style,
)
from implreg_book import figures
from implreg_book.chapters.splines import DRAWN, TESTS, Found, drawn, hypotheses
from implreg_book.evidence import words
from implreg_book.evidence.hypotheses import Expectation


def _against(rows: pd.DataFrame, x: str, y: list[str], **look: Any) -> Figure:
    """Measures against a number, of the networks that have them."""
    there = rows[(rows[y] > 0).all(axis=1)]
    if len(there):
        return figures.plot_against(there, x, y, **look)
    canvas = new_figure(1.0)
    canvas.text(0.5, 0.5, "no network with a finite loss", ha="center", va="center", color=MUTED)
    return show(canvas, alt="An empty figure: there is no network with a finite loss.")


def width_figure(found: Found) -> Figure:
    """The distance from the limit and, as a control, from another spline against width."""
    rows = found.output[found.output.start != "random"]
    labels = ["distance from weighted spline", "from natural spline"]
    return _against(rows, "width", ["to_limit", "to_natural"], by="start", log="xy", ylabel=labels)


def gaps_figure(found: Found) -> Figure:
    """The gap deviation and the distance from the chords against width."""
    rows, by = found.output[found.output.start != "Gaussian"], "output weights"
    rows = rows.assign(**{by: rows.start.replace("uniform", "zero")})
    labels = ["gap deviation (per unit of x)", "largest distance from chords"]
    columns = ["gap_deviation", "from_chords"]
    return _against(rows, "width", columns, by=by, log="xy", ylabel=labels)


def scale_figure(found: Found) -> Figure:
    """The distances from both splines against the scale."""
    labels = ["distance from cubic spline", "from linear spline"]
    look = {"by": "bends", "xlabel": "scale of the hidden weights", "ylabel": labels}
    return _against(found.every, "scale", ["to_limit", "to_linear"], log="xy", **look)


def variation_figure(found: Found) -> Figure:
    """The variation of the slope, and in how many windows it is, against the scale."""
    labels = ["total variation / least possible", "windows for 95 % of it"]
    look = {"by": "bends", "xlabel": "scale of the hidden weights", "ylabel": labels}
    return _against(found.every, "scale", ["variation_ratio", "knots"], log="x", **look)


def functions_figure(found: Found) -> Figure:
    """Networks of each kind through the samples."""
    canvas, panels = _curves(found, DRAWN[:4], "value", "f(x)")
    told = []
    with style():
        for name, (panel, rows) in panels.items():
            one = rows[rows.network == rows.network.iloc[0]]
            panel.plot(one.x, one.linear, ":", color=INK, linewidth=1.4)
            panel.plot(found.p.x, _targets(found, name), "o", color=MUTED, zorder=5)
            off = [number((rows.value - rows[line]).abs().max()) for line in ("limit", "linear")]
            told.append(
                f"{name}: at most {off[0]} from the limit of wide networks and {off[1]} from the "
                "linear spline"
            )
    alt = f"Four panels with {words.some(drawn(found.p), 'network')} each through "
    alt += f"{len(found.p.x)} points"
    return show(canvas, alt=_finite(f"{alt}, over the weighted and the linear spline", told))


def slopes_figure(found: Found) -> Figure:
    """The slopes of networks from a large and from a small scale."""
    canvas, panels = _curves(found, (DRAWN[4], *DRAWN[2:4]), "slope", "slope f′(x)")
    told = []
    x = np.asarray(found.p.x)
    with style():
        for name, (panel, rows) in panels.items():
            chord = np.diff(_targets(found, name)) / np.diff(x)
            panel.stairs(chord, x, color=INK, linestyle=":", linewidth=1.4, baseline=None)
            panel.plot(x, np.full(len(x), panel.get_ylim()[0]), "|", color=MUTED, markersize=10)
            there = rows[rows.slope.notna()]
            at_chord = chord[np.clip(np.searchsorted(x, there.x) - 1, 0, len(chord) - 1)]
            off = 100 * (np.abs(there.slope - at_chord) > 0.1 * np.ptp(chord)).mean()
            told.append(
                f"{name}: slopes from {number(there.slope.min())} to {number(there.slope.max())}, "
                f"{number(off)} % of the way more than a tenth of the range from those of the "
                "chords"
            )
    alt = f"Three panels with the slopes of {words.some(drawn(found.p), 'network')} each"
    return show(
        canvas, alt=_finite(f"{alt}, over those of the weighted and the linear spline", told)
    )


def _finite(what: str, told: Sequence[str]) -> str:
    """An alternative text, in which networks without a finite loss have no numbers."""
    lost = "no network with a finite loss"
    each = [f"{one.partition(':')[0]}: {lost}" if "nan" in one else one for one in told]
    return f"{what}. {'; '.join(each)}."


def _targets(found: Found, name: str) -> tuple[float, ...]:
    return found.p.y_same if "same sign" in name else found.p.y


def _curves(
    found: Found, names: Sequence[str], column: str, ylabel: str
) -> tuple[Canvas, dict[str, tuple[Axes, pd.DataFrame]]]:
    """Panels with networks over the spline of their start, by name, and what they show."""
    canvas, made = new_figure(5.4), {}
    with style():
        panels = canvas.subplots(2, 2, sharex=True).ravel()
        for letter, name, panel in zip("abcd", names, panels, strict=False):
            panel.set_title(f"{letter}  {name}", loc="left", fontweight="bold")
            rows = found.curves[found.curves.name == name]
            made[name] = panel, rows
            one = rows[rows.network == rows.network.iloc[0]]
            limit = one.limit if column == "value" else np.gradient(one.limit, one.x)
            panel.plot(one.x, limit, "--", color=INK, linewidth=1.4)
            lines = rows.groupby("network")
            for colour, (_, line) in zip(CATEGORIES, lines, strict=False):
                panel.plot(line.x, line[column], color=colour, linewidth=1.2, alpha=0.9)
        for side, below in zip(panels[::2], panels[2:], strict=True):
            side.set_ylabel(ylabel)
            below.set_xlabel("x")
        panels[3].set_visible(len(names) == 4)
        panels[1].tick_params(labelbottom=len(names) < 4)
        looks = {"networks": "-", "weighted spline": "--", "linear spline": ":"}
        handles = [
            Line2D([], [], color=CATEGORIES[0] if ls == "-" else INK, ls=ls, label=label)
            for label, ls in looks.items()
        ]
        legend(canvas, handles)
    return canvas, made


def arrived_table(found: Found) -> pd.DataFrame:
    """How many networks reached the training loss, and after how many steps."""
    output = {f"output weights, {of}": rows for of, rows in found.output.groupby("start")}
    every = {
        f"all weights, {bends}, scale {scale:g}": rows
        for (bends, scale), rows in found.every.groupby(["bends", "scale"])
    }
    rows = {
        name: {
            "networks": len(of),
            "reached": of.reached.sum(),
            "infinite": of.variation.isna().sum(),
            "mean steps": f"{of.steps.mean():,.0f}",
            "largest loss": f"{of.loss.max():.1e}" if of.variation.notna().all() else "infinite",
        }
        for name, of in (output | every).items()
    }
    return pd.DataFrame(rows).T


def judged_table(found: Found) -> pd.DataFrame:
    """Every expectation, what was found, and the verdicts."""
    rows = [
        {
            "hypothesis": name,
            "quantity": one.quantity,
            "wanted": _wanted(one).replace("-", "−"),
            "found, widened interval": f"{one.widened(TESTS):.4g}",
            "networks": one.estimate.n,
            "test": str(outcome),
            "verdict": str(hypothesis.outcome()),
        }
        for name, hypothesis in hypotheses(found).items()
        for one, outcome in zip(hypothesis.expected, hypothesis.outcomes(), strict=True)
    ]
    return pd.DataFrame(rows).set_index("hypothesis")


def _wanted(one: Expectation) -> str:
    if math.isinf(one.low):
        return f"below {one.high:g}"
    return f"above {one.low:g}" if math.isinf(one.high) else f"{one.low:.3g} to {one.high:.3g}"


FIGURES = {
    "functions": functions_figure,
    "width": width_figure,
    "scale": scale_figure,
    "variation": variation_figure,
    "slopes": slopes_figure,
    "gaps": gaps_figure,
}
TABLES = {"arrived": arrived_table, "judged": judged_table}
