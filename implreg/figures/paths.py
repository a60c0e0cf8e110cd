"""Figures of one path: outputs, slopes and gradient gaps, traced or sampled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from implreg.errors import InputError
from implreg.figures.display import (
    CATEGORIES,
    INK,
    MARKERS,
    MUTED,
    STEPS,
    Figure,
    legend,
    new_figure,
    number,
    round_ticks,
    show,
    style,
)

if TYPE_CHECKING:
    from implreg.tracing import Trace

Floats = NDArray[np.float64]
_HAIRS = 1000  # what lies closer than this share of the path is drawn as one
_LINES = 20  # outputs drawn one by one; more would be one grey mass and a large file


def plot_path(
    trace: "Trace", outputs: Sequence[int] | None = None, *, deflection: bool = False
) -> Figure:
    """Outputs and slopes along one path, with the breakpoints of each layer below.

    Args:
        trace: of one path, such as `trace[0]`.
        outputs: which to draw in colour, at most 6. By default the three that are largest somewhere
            on the path. The others are thin, or a band if they are many.
        deflection: whether to mark the mid-path deflection of the slopes.

    Returns:
        A figure that a notebook displays in light and dark, with an alternative text.

    Raises:
        InputError: a trace of several paths, an output that the network does not have, or
            `deflection` for a polyline.

    Source: figure 1 of Kubo et al. (2019).

    >>> import torch
    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 20, 2, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
    >>> plot_path(trace[0], [1], deflection=True).alt
    'Outputs and slopes along one path from t = 0 to 1, with ... breakpoints. ...'
    """
    _check_one(trace)
    if deflection and trace.segments > 1:
        raise InputError(
            f"deflection must be False for a polyline, which has no middle, got {trace.segments} "
            f"segments; leave it out."
        )
    _, values, _ = knots_of(trace)
    chosen = chosen_outputs(values, outputs)
    layers = len(trace.layers)
    with style():
        canvas = new_figure(4.6 + 0.22 * layers)
        ratios = [2.6, 2.6, 0.28 * layers + 0.1]
        top, middle, bottom = canvas.subplots(3, 1, sharex=True, height_ratios=ratios)
        handles = draw_outputs(top, trace, chosen)
        draw_slopes(middle, trace, chosen)
        if deflection:
            handles.append(_draw_deflection(middle, trace, chosen))
        _draw_breakpoints(bottom, trace)
        for panel, letter in ((top, "a"), (middle, "b")):
            panel.set_title(letter, loc="left", fontweight="bold")
        bottom.set_xlabel("position t on the path")
        legend(canvas, handles)
    return show(canvas, alt=_described(trace, chosen, deflection))


def plot_gaps(trace: "Trace", output: int = 0) -> Figure:
    """Gradient gaps of one output along one path, a stem at each breakpoint.

    Args:
        trace: of one path, such as `trace[0]`.
        output: which output.

    Returns:
        A figure that a notebook displays in light and dark, with an alternative text.

    Raises:
        InputError: a trace of several paths, or an output that the network does not have.

    >>> import torch
    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 20, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
    >>> plot_gaps(trace[0]).alt
    'Stem plot of the gradient gaps of the output against position t from 0 to 1, ...'
    """
    _check_one(trace)
    chosen_outputs(np.atleast_2d(trace.values.numpy(force=True)), [output])
    with style():
        canvas = new_figure(3.3)
        panel = canvas.add_subplot()
        handles = draw_gaps(panel, trace, output)
        panel.set_xlabel("position t on the path")
        legend(canvas, handles)
    gaps = trace.gaps.numpy(force=True)[:, output]
    alt = (
        f"Stem plot of the gradient gaps of {named(trace.values, output)} against position t from "
        f"0 to {trace.segments}, {_switch_counts(trace)}."
    )
    if len(gaps):
        alt += (
            f" Gaps lie between {number(gaps.min())} and {number(gaps.max())}, "
            f"{(gaps > 0).sum():,} of {len(gaps):,} are positive, and the gradient gap deviation "
            f"is {number(_deviation(gaps))}."
        )
    return show(canvas, alt=alt)


def draw_outputs(panel: Axes, trace: "Trace", chosen: Sequence[int]) -> list[Line2D]:
    """Draw the outputs of a trace against t; see `draw_lines`."""
    knots, values, _ = knots_of(trace)
    keep = apart(knots, trace.segments)
    handles = draw_lines(panel, knots[keep], values[keep], chosen, _corners(trace))
    label(panel, "output φ(t)", trace.segments)
    return handles


def draw_lines(
    panel: Axes, t: Floats, values: Floats, chosen: Sequence[int], corners: Floats
) -> list[Line2D]:
    """Draw outputs against t, the chosen ones in colour over their chords; return the handles.

    Args:
        panel: where to draw.
        t: positions, (T,).
        values: outputs there, (T, C).
        chosen: which of them are drawn in colour.
        corners: the outputs at t = 0, 1, ..., between which chords are drawn.
    """
    handles = [Line2D([], [], color=CATEGORIES[i], linewidth=2.4, label=named(values, output))
               for i, output in enumerate(chosen)]  # fmt: skip
    others = np.delete(values, chosen, axis=1)
    if others.shape[1] > _LINES:
        low, high = others.min(axis=1), others.max(axis=1)
        panel.fill_between(t, low, high, color=MUTED, alpha=0.25, linewidth=0)
        band = "range of the other outputs"
        handles.append(Line2D([], [], color=MUTED, alpha=0.25, linewidth=8, label=band))
    elif others.shape[1]:
        panel.plot(t, others, color=MUTED, alpha=0.45, linewidth=1)
        handles.append(Line2D([], [], color=MUTED, alpha=0.5, label="other outputs"))
    for i, output in enumerate(chosen):
        panel.plot(range(len(corners)), corners[:, output], "--", color=MUTED, linewidth=1.6)
        panel.plot(t, values[:, output], color=CATEGORIES[i], linewidth=2.2)
    return [*handles, Line2D([], [], color=MUTED, ls="--", label="chord")]


def draw_slopes(panel: Axes, trace: "Trace", chosen: Sequence[int]) -> None:
    """Draw the slopes of the chosen outputs against t, piece by piece."""
    knots, _, slopes = knots_of(trace)
    keep = apart(knots[:-1], trace.segments)
    for i, output in enumerate(chosen):
        panel.step(np.append(knots[:-1][keep], knots[-1]),
                   np.append(slopes[keep, output], slopes[-1, output]), where="post",
                   color=CATEGORIES[i], linewidth=1.6)  # fmt: skip
    label(panel, "slope dφ/dt", trace.segments)


def draw_gaps(panel: Axes, trace: "Trace", output: int) -> list[Line2D]:
    """Draw a stem per gradient gap, coloured by layer; return one handle per layer and more."""
    t, gaps, layer = (x.numpy(force=True) for x in (trace.t, trace.gaps[:, output], trace.layer))
    handles = []
    panel.axhline(0, color=MUTED, linewidth=1)
    for i, colour in enumerate(layer_colours(len(trace.layers))):
        here = layer == i
        panel.plot(*_stems(t[here], 0, gaps[here]), color=colour, linewidth=1.3)
        marker = MARKERS[i % len(MARKERS)]
        if len(t) <= 400:
            panel.plot(t[here], gaps[here], marker, color=colour, markersize=4.5)
        handles.append(Line2D([], [], color=colour, marker=marker, label=f"layer {i + 1}"))
    if len(t):
        for sign in (-1, 1):
            panel.axhline(sign * _deviation(gaps), color=INK, ls=":", linewidth=1.4)
        handles.append(Line2D([], [], color=INK, ls=":", label="± gradient gap deviation"))
    label(panel, "gradient gap", trace.segments)
    return handles


def _described(trace: "Trace", chosen: Sequence[int], deflection: bool) -> str:
    """Alt text of the outputs and slopes of one path."""
    knots, values, slopes = knots_of(trace)
    corners = _corners(trace)
    segments = f" of {trace.segments} straight segments" if trace.segments > 1 else ""
    text = (
        f"Outputs and slopes along one path{segments} from t = 0 to {trace.segments}, "
        f"{_switch_counts(trace)}. Outputs are drawn as lines over their dashed chords, slopes as "
        f"steps, breakpoints as ticks per layer."
    )
    for output in chosen:
        slope = slopes[:, output]
        text += told(named(values, output), knots, values[:, output], slope, corners[:, output])
        if len(trace.t):
            deviation = _deviation(trace.gaps.numpy(force=True)[:, output])
            text += f", gradient gap deviation {number(deviation)}"
        if deflection:
            middle, mean = _middle(slope)
            text += f", mid-path deflection {number(middle - mean)}"
        text += "."
    return text


def knots_of(trace: "Trace") -> tuple[Floats, Floats, Floats]:
    """Where pieces start, and the end; values there, a row more than the slopes between.

    For a straight path these are 0, the M breakpoints and 1; a polyline adds its corners.
    """
    knots = np.append(trace.piece_start.numpy(force=True).astype(np.float64), trace.segments)
    values = np.concatenate([trace.values.numpy(force=True), trace.ends.numpy(force=True)])
    return knots, values, trace.slopes.numpy(force=True)


def told(name: str, t: Floats, output: Floats, slope: Floats, corners: Floats) -> str:
    """One output and its slope in words, without the full stop; arguments as `draw_lines`."""
    off = np.abs(output - np.interp(t, range(len(corners)), corners)).max()
    return (
        f" {name.capitalize()} goes from {number(output[0])} to {number(output[-1])}, at most "
        f"{number(off)} from its chord{'s' if len(corners) > 2 else ''}; its slope lies between "
        f"{number(slope.min())} and {number(slope.max())}"
    )


def _corners(trace: "Trace") -> Floats:
    """The outputs at the ends and corners, (N + 1, C)."""
    knots, values, _ = knots_of(trace)
    return values[np.searchsorted(knots, np.arange(trace.segments + 1))]


def layer_colours(layers: int) -> list[str]:
    """One colour per layer, from first to last."""
    return [STEPS[i] for i in np.linspace(0, len(STEPS) - 1, layers).round().astype(int)]


def _middle(slope: Floats) -> tuple[float, float]:
    """Slope after half of the switches, and the mean of the end slopes."""
    return float(slope[(len(slope) - 1) // 2]), float(slope[0] + slope[-1]) / 2


def _draw_deflection(panel: Axes, trace: "Trace", chosen: Sequence[int]) -> Line2D:
    """A bar from the mean of the end slopes to the slope after half of the switches; its handle."""
    knots, _, slopes = knots_of(trace)
    half = len(trace.t) // 2
    at = (knots[half] + knots[half + 1]) / 2
    for output in chosen:
        middle, mean = _middle(slopes[:, output])
        panel.plot([0, 1], [mean, mean], ":", color=MUTED, linewidth=1.4)
        panel.plot([at, at], [mean, middle], color=INK, linewidth=2.6, zorder=5)
    return Line2D([], [], color=INK, linewidth=2.6, label="mid-path deflection")


def _draw_breakpoints(panel: Axes, trace: "Trace") -> None:
    t, layer = trace.t.numpy(force=True), trace.layer.numpy(force=True)
    layers = len(trace.layers)
    for i, colour in enumerate(layer_colours(layers)):
        here = t[layer == i]
        here = here[apart(here, trace.segments)]
        panel.plot(*_stems(here, i - 0.38, i + 0.38), color=colour, linewidth=0.9)
    panel.set_yticks(range(layers), [f"layer {i + 1}" for i in range(layers)])
    panel.set_ylim(layers - 0.5, -0.5)
    panel.set_xlim(0, trace.segments)
    panel.tick_params(axis="y", length=0)
    panel.grid(False)
    panel.spines["left"].set_visible(False)


def _stems(x: Floats, low: float, high: Floats | float) -> tuple[Floats, Floats]:
    """Separate vertical strokes as one line, which is small as SVG."""
    strokes = np.broadcast_arrays(low, high, np.full(len(x), np.nan))
    return np.repeat(x, 3), np.stack(strokes, axis=1).ravel()


def apart(t: Floats, length: int) -> NDArray[np.int64]:
    """Indices that keep one entry per hair of the path, and the last."""
    hairs = np.floor(t * _HAIRS / length)
    return np.flatnonzero(np.append(hairs[1:] != hairs[:-1], True)) if len(t) else np.arange(0)


def label(panel: Axes, text: str, segments: int = 1, ticks: int = 5) -> None:
    """Label the y axis of a panel, and draw a line at every corner of a path."""
    panel.set_ylabel(text)
    panel.set_xlim(0, segments)
    for corner in range(1, segments):
        panel.axvline(corner, color=MUTED, alpha=0.5, linewidth=1)
    panel.yaxis.set_major_locator(round_ticks(ticks))


def chosen_outputs(values: Floats, outputs: Sequence[int] | None) -> list[int]:
    """The outputs to draw in colour: those asked for, or the three largest."""
    count = values.shape[1]
    if outputs is None:
        largest = np.argsort(-values.max(axis=0), kind="stable")
        return sorted(int(c) for c in largest[:3])
    known = all(type(c) is not bool and c in range(count) for c in outputs)
    if not known or not 1 <= len(set(outputs)) == len(outputs) <= len(CATEGORIES):
        raise InputError(
            f"outputs must be 1 to {len(CATEGORIES)} different numbers from 0 to {count - 1}, got "
            f"{list(outputs)}; choose among the network's {count} outputs."
        )
    return [int(c) for c in outputs]


def _check_one(trace: "Trace") -> None:
    if len(trace) != 1:
        raise InputError(
            f"trace must hold one path to be drawn, got {len(trace)} paths; write for example "
            f"trace[0]."
        )


def named(values: Tensor | Floats, output: int) -> str:
    """What an output is called."""
    return "the output" if values.shape[1] == 1 else f"output {output}"


def _switch_counts(trace: "Trace") -> str:
    layer = trace.layer.numpy(force=True)
    counts = [int((layer == i).sum()) for i in range(len(trace.layers))]
    split = ", ".join(f"{count:,} of layer {i + 1}" for i, count in enumerate(counts))
    return f"with {len(layer):,} breakpoints" + (f" ({split})" if len(counts) > 1 else "")


def _deviation(gaps: Floats) -> float:
    return float(np.sqrt(np.mean(gaps**2)))
