"""What stands where a figure would be, if there is nothing to draw."""

from implreg.figures import Figure, show, style
from implreg.figures.display import MUTED, new_figure


def nothing_to_draw(why: str) -> Figure:
    """A strip that says, in one sentence, why nothing is drawn.

    >>> nothing_to_draw("No network reached the training loss.").alt
    'Nothing is drawn: No network reached the training loss.'
    """
    with style():
        canvas = new_figure(0.7)
        canvas.text(0.5, 0.5, why, ha="center", va="center", color=MUTED)
    return show(canvas, alt=f"Nothing is drawn: {why}")
