"""Double descent: networks of growing width on noisy labels, in the chapter on complexity."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.chapters import compared
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.evidence import rules
from implreg_book.evidence.statistics import NONE, Estimate, ratio

_CURVES = {
    "test_error": "test error",
    "deflection": r"gradient deflection $\delta$",
    "total_variation": r"total variation $\sum|g|$",
    "deviation_from_affine": "deviation from affine",
}


def _over(rows: pd.DataFrame, column: str, above: float, below: float) -> Estimate:
    """A quantity at one width over that at another, seed by seed."""
    by = rows.pivot(index="seed", columns="units", values=column)[[above, below]]
    by = by.where(by > 0).dropna()
    return compared.widened(ratio(by[above], by[below]), 1) if len(by) else NONE


def fits_from(rows: pd.DataFrame) -> float:
    """The width from which on all networks reach the loss; infinite if the widest do not."""
    short = rows.units[~rows.reached].max()  # NaN if all fit, which no width is below
    fits = rows.units[~(rows.units <= short)].min()
    return math.inf if math.isnan(fits) else float(fits)


def rise(rows: pd.DataFrame) -> tuple[str, Estimate, str]:
    """Whether the test error rises with width before all networks fit.

    Returns:
        "yes", "no" or "open", the largest step up, widened for the number of steps, and its widths.
    """
    widths, fits = sorted(rows.units.unique()), fits_from(rows)
    steps = [(a, b) for a, b in pairwise(widths) if b <= fits]
    found = {
        f"{a:,.0f} to {b:,.0f}": compared.widened(_over(rows, "test_error", b, a), len(steps))
        for a, b in steps
    }
    if not found or any(x.n < 2 for x in found.values()):
        return "open", NONE, ""
    step, largest = max(found.items(), key=lambda item: item[1].low)
    return "yes" if rules.larger(largest) else "no", largest, step


def _described(rows: pd.DataFrame, share: float) -> tuple[str, bool, bool]:
    """What the page says of a share of random labels.

    Returns:
        The sentences; whether both peaks lie inside, where not all networks fit; and whether paths
        get straighter, and errors fewer, beyond the peak of the deflection.
    """
    head = f"With {100 * share:g} % random labels"
    if rows.units.nunique() < 2:
        return f"{head} fewer than two widths were measured.", False, False
    kind, step, at = rise(rows)
    means = rows.groupby("units")[list(_CURVES)].mean().dropna()
    if means.empty:
        return f"{head} no width has all measures.", False, False
    told = {
        "yes": f"there is double descent: the largest step up that the test error makes is "
        f"{step:.2f} times, from {at} units",
        "no": f"there is no double descent: the largest step up that the test error makes is "
        f"{step:.2f} times, from {at} units",
        "open": "it stays open whether there is double descent, as no step below the width from "
        "which on all networks fit has an interval",
    }[kind]
    fits, widths = fits_from(rows), means.index.to_numpy(float)
    ends = (widths.min(), widths.max())
    peaks = [widths[means[c].argmax()] for c in ("deflection", "deviation_from_affine")]
    fit = (
        "no width lets all networks fit"
        if math.isinf(fits)
        else f"all fit from {fits:,.0f} units on"
    )
    text = (
        f"{head} {told}. The mean deflection is largest at {peaks[0]:,.0f} units, the mean "
        f"deviation from affine at {peaks[1]:,.0f}; {fit}."
    )
    inside = all(ends[0] < peak < min(ends[1], fits) for peak in peaks)
    if peaks[0] == ends[1]:
        return text, inside, False
    over = [_over(rows, column, ends[1], peaks[0]) for column in list(_CURVES)[:3]]
    error, bend, variation = map(compared.times, over)
    text += (
        f" From the peak of the deflection to {ends[1]:,.0f} units, the test error becomes "
        f"{error}, the deflection {bend}, the total variation {variation}."
    )
    return text, inside, all(compared.changed(x) == "falls" for x in over[:2])


def told(fine: pd.DataFrame, shares: Sequence[float]) -> dict[str, object]:
    """What the networks of growing width say, for some shares of random labels."""
    rows = fine.dropna(subset="units")
    every = [_described(rows[rows.random_labels == share], share) for share in shares]
    moral = "more units, straighter paths, fewer errors"
    return {
        "descent": " ".join(text for text, *_ in every),
        "peaks": "So the curvature shows where fitting is hard, whether or not the test error does."
        if all(inside for _, inside, _ in every)
        else "",
        "moral": f"Beyond the peak of the deflection the paper's moral holds: {moral}."
        if all(beyond for *_, beyond in every)
        else f"The paper's moral, {moral}, does not show everywhere here.",
    }


def figure(fine: pd.DataFrame) -> Figure:
    """Networks of growing width on noisy labels."""
    curve = fine.dropna(subset=["units", *_CURVES])
    if curve.empty:
        return nothing_to_draw(compared.NO_NETWORK)
    share = (100 * curve.random_labels).map("{:g} %".format)
    return figures.plot_against(
        curve.assign(**{"random labels": share}), "units", list(_CURVES), by="random labels",
        log="x", xlabel="hidden units", ylabel=list(_CURVES.values()),
    )  # fmt: skip
