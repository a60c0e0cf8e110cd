"""An explorer of single paths for notebooks."""

from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np
from torch import nn

from implreg.errors import InputError
from implreg.figures import plot_path, style
from implreg.figures.display import new_figure, number, to_svg
from implreg.figures.paths import draw_gaps, draw_outputs, draw_slopes, knots_of
from implreg.tracing import Paths, Trace, trace

QUANTITIES = ("outputs", "slopes", "gaps")
# Left, bottom, width, height of the panel in the picture. They are fixed so that the mark of t can
# be put into the finished drawing, which is far quicker than to draw again.
_PANEL = (0.12, 0.16, 0.85, 0.72)
_SIZE = (6.6, 3.4)  # inches


def path_explorer(net: nn.Module, paths: Paths, *, output: int | None = None) -> "PathExplorer":
    """Explore the outputs, slopes and gradient gaps of a network, one path at a time.

    Displayed as the last expression of a cell it gives four controls (pair, output, quantity and
    the position t), a picture, and a sentence that says what happens at t. Where no widgets run,
    as on a static page, a still picture of the first path stands in its place.

    Args:
        net: a module in eval mode made of piecewise linear operations, see `implreg.read`.
        paths: pairs of samples, two tensors (starts, ends) of shape (P, *input), or a polyline.
        output: which output to show first; by default the one that is largest on the first path.

    Raises:
        InputError: what `implreg.trace` refuses, or an output that the network does not have.
    """
    return PathExplorer(net, paths, output=output)


class PathExplorer:
    """The explorer that `path_explorer` makes.

    Every pair is traced at the start. After that a new pair, output or quantity costs one drawing,
    and a new t no drawing at all.

    Attributes:
        pair, output, quantity, t: the controls; set their `value` to move them.
        picture, sentence: what they lead to, as HTML.
        view: all of these in one box.
    """

    def __init__(self, net: nn.Module, paths: Paths, *, output: int | None = None) -> None:
        """Trace the paths and build the controls; see `path_explorer`."""
        self._trace = trace(net, paths)
        first = self._trace[0]
        count = first.values.shape[1]
        whole = isinstance(output, int) and not isinstance(output, bool)
        if output is not None and not (whole and 0 <= output < count):
            raise InputError(
                f"output must be a whole number from 0 to {count - 1}, got {output!r}; choose "
                f"among the network's {count} outputs."
            )
        start = int(first.values.max(dim=0).values.argmax()) if output is None else output
        self._still = plot_path(first, [start])

        wide = {"style": {"description_width": "5em"}, "layout": {"width": "98%"}}
        self.pair = widgets.IntSlider(
            0, 0, len(self._trace) - 1, description="pair", continuous_update=False, **wide
        )
        self.output = widgets.Dropdown(
            options=[(f"output {c}", c) for c in range(count)], value=start, description="output"
        )
        self.quantity = widgets.Dropdown(options=QUANTITIES, description="quantity")
        self.t = widgets.FloatSlider(
            0.5,
            min=0,
            max=first.segments,
            step=0.001,
            readout_format=".3f",
            description="position t",
            **wide,
        )
        self.picture, self.sentence = widgets.HTML(), widgets.HTML()
        choices = widgets.HBox([self.output, self.quantity], layout={"flex_flow": "row wrap"})
        self.view = widgets.VBox(
            [self.pair, choices, self.t, self.picture, self.sentence], layout={"max_width": "660px"}
        )
        for control in (self.pair, self.output, self.quantity):
            control.observe(self._draw, names="value")
        self.t.observe(self._mark, names="value")
        self._draw()

    def _draw(self, _: object = None) -> None:
        """Draw the chosen quantity of the chosen path without the mark."""
        path, output = self._trace[self.pair.value], self.output.value
        with style():
            fig = new_figure(_SIZE[1], width=_SIZE[0])
            fig.set_layout_engine("none")
            panel = fig.add_axes(_PANEL)
            if self.quantity.value == "outputs":
                draw_outputs(panel, path, [output])
            elif self.quantity.value == "slopes":
                draw_slopes(panel, path, [output])
            else:
                layers = draw_gaps(panel, path, output)
                fig.legend(handles=layers, loc="upper left", ncols=len(layers))
            panel.set_xlabel("position t on the path")
            panel.yaxis.set_label_coords(-0.095, 0.5)
        self._drawing = to_svg(fig, alt=f"{self.quantity.value} of output {output}")
        self._limits = panel.get_ylim()
        self._mark()

    def _mark(self, _: object = None) -> None:
        """Mark t in the finished drawing, and say what happens there."""
        path, output, t = self._trace[self.pair.value], self.output.value, self.t.value
        knots, values, slopes = knots_of(path)
        piece = int(np.searchsorted(knots[1:-1], t, side="right"))
        slope = slopes[piece, output]
        value = values[piece, output] + slope * (t - knots[piece])
        height = {"outputs": value, "slopes": slope, "gaps": 0.0}[self.quantity.value]
        x, y, bottom, top = _place(t / path.segments, float(height), self._limits)
        mark = (
            f'<line x1="{x:.2f}" x2="{x:.2f}" y1="{bottom:.2f}" y2="{top:.2f}" '
            f'style="stroke:var(--ink);stroke-width:1.2"/>'
            f'<circle cx="{x:.2f}" cy="{y:.2f}" r="4" style="fill:var(--ink)"/>'
        )
        self.picture.value = self._drawing.removesuffix("</svg>\n") + mark + "</svg>\n"

        text = (
            f"t = {t:.3f}: piece {piece + 1} of {len(slopes)}, from {knots[piece]:.4f} to "
            f"{knots[piece + 1]:.4f}. Output {output} is {number(value)}, "
            f"its slope {number(slope)}."
        )
        switch = _switch_behind(path, piece)
        if switch is not None:
            unit, layer = int(path.unit[switch]), int(path.layer[switch]) + 1
            gap = number(float(path.gaps[switch, output]))
            text += f" The piece ends where unit {unit} of layer {layer} switches: gap {gap}."
        elif piece + 1 < len(slopes):
            text += " The piece ends at a corner of the path, where no unit switches."
        else:
            text += " No unit switches after it."
        self.sentence.value = f'<p aria-live="polite">{escape(text)}</p>'

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        still, metadata = self._still._repr_mimebundle_()
        # The still says in words what it shows, so its plain text replaces that of the widget.
        return {**self.view._repr_mimebundle_(), **still}, metadata


def _switch_behind(path: Trace, piece: int) -> int | None:
    """Which switch ends a piece; None for a corner and for the end of the path."""
    behind = np.arange(len(path.t)) + path.segment.numpy(force=True)  # the piece before each switch
    switch = int(np.searchsorted(behind, piece))
    return switch if switch < len(behind) and behind[switch] == piece else None


def _place(along: float, height: float, limits: tuple[float, float]) -> tuple[float, ...]:
    """Where a point of the panel and the panel's lower and upper edge are, in points.

    Args:
        along: share of the path.
        height: of the point, as the vertical axis counts.
        limits: of that axis.
    """
    left, low, width, tall = _PANEL
    full_width, full_height = 72 * _SIZE[0], 72 * _SIZE[1]

    def down(share: float) -> float:
        return full_height * (1 - low - tall * share)

    share = (height - limits[0]) / (limits[1] - limits[0])
    return full_width * (left + width * along), down(share), down(0), down(1)
