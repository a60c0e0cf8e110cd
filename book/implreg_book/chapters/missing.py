"""What a chapter says and draws where something may not have been measured."""

import numpy as np
import pandas as pd

from implreg.figures import Figure, show, style
from implreg.figures.display import MUTED, new_figure
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval, ratio

NOT_TESTED = "not tested"


def told(estimate: Estimate, spec: str = "") -> str:
    """An estimate in figures, or that there is none.

    >>> told(NONE, ".2f"), told(Estimate(1.0, 0.9, 1.1, 9), ".1f").replace(chr(160), " ")
    ('not tested', '1.0 [0.9, 1.1]')
    """
    return f"{estimate:{spec}}" if estimate.n else NOT_TESTED


def mean(values: pd.Series) -> Estimate:
    """The mean of those numbers that are finite."""
    found = values[np.isfinite(values)]
    return mean_interval(found) if len(found) else NONE


def paired(above: pd.Series, below: pd.Series | float = 1.0) -> Estimate:
    """The geometric mean of ratios, of the seeds that have both numbers and a ratio above 0.

    >>> paired(pd.Series([2.0, 8.0, 1.0]), pd.Series([1.0, 1.0, 0.0])).value
    4.0
    """
    found = above / below
    found = found[np.isfinite(found) & (found > 0)]
    return ratio(found, [1.0] * len(found)) if len(found) else NONE


def nothing_to_draw(why: str) -> Figure:
    """A strip that says, in one sentence, why nothing is drawn.

    >>> nothing_to_draw("No network reached the training loss.").alt
    'Nothing is drawn: No network reached the training loss.'
    """
    with style():
        canvas = new_figure(0.7)
        canvas.text(0.5, 0.5, why, ha="center", va="center", color=MUTED)
    return show(canvas, alt=f"Nothing is drawn: {why}")


def instead(what: str) -> Figure:
    """The same of something that is not tested."""
    return nothing_to_draw(f"{what}, {NOT_TESTED}.")
