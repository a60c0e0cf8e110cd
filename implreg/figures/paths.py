"""Figures of one path: outputs, slopes and gradient gaps, traced or sampled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    from implreg.sampled import Samples
    from implreg.tracing import Trace

Floats = NDArray[np.float64]
_HAIRS = 1000  # what lies closer than this share of the path is drawn as one
_LINES = 20  # outputs drawn one by one; more would be one grey mass and a large file


def plot_path(
    trace: "Trace",
    outputs: Sequence[int] | None = None,
    *,
    chord: bool = True,
    deflection: bool = False,
) -> Figure:
    """Outputs and slopes along one path, with the breakpoints of each layer below.

    Args:
        trace: of one path, such as `trace[0]`.
        outputs: which to draw in colour, at most 6; the others are thin. By default the three that
            are largest somewhere on the path.
        chord: whether to draw the straight line between the two ends of each output in colour.
        deflection: whether to mark the mid-path deflection of the slopes.

    Raises:
        InputError: a trace of several paths, or an output that the network does not have.

    Source: figure 1 of Kubo et al. (2019).
    """
    _check_one(trace)
    if deflection and trace.segments > 1:
        raise InputError(
            f"deflection must be False for a polyline, which has no middle, got {trace.segments} "
            f"segments; leave it out."
        )
    _, values, _ = knots_of(trace)
    chosen = _chosen(values, outputs)
    layers = len(trace.layers)
    with style():
        canvas = new_figure(4.6 + 0.22 * layers)
        grid = canvas.add_gridspec(3, 1, height_ratios=[2.6, 2.6, 0.28 * layers + 0.1])
        top = canvas.add_subplot(grid[0])
        middle = canvas.add_subplot(grid[1], sharex=top)
        bottom = canvas.add_subplot(grid[2], sharex=top)
        draw_outputs(top, trace, chosen, chord=chord)
        draw_slopes(middle, trace, chosen)
        if deflection:
            _draw_deflection(middle, trace, chosen)
        _draw_breakpoints(bottom, trace)
        for panel, letter in ((top, "a"), (middle, "b")):
            panel.set_title(letter, loc="left", fontweight="bold")
            panel.tick_params(labelbottom=False)
        bottom.set_xlabel("position t on the path")
        handles = [Line2D([], [], color=CATEGORIES[i], linewidth=2.4, label=_output(trace, c))
                   for i, c in enumerate(chosen)]  # fmt: skip
        if values.shape[1] > len(chosen):
            handles.append(Line2D([], [], color=MUTED, alpha=0.5, label="other outputs"))
        if chord:
            handles.append(Line2D([], [], color=MUTED, ls="--", label="chord"))
        if deflection:
            handles.append(Line2D([], [], color=INK, linewidth=2.6, label="mid-path deflection"))
        legend(canvas, handles)
    return show(canvas, alt=describe(trace, chosen, chord=chord, deflection=deflection))


def plot_samples(
    samples: "Samples", values: Tensor, path: int = 0, outputs: Sequence[int] | None = None
) -> Figure:
    """Outputs and slopes at the sampled positions of a path, with the switches in between below.

    Args:
        samples: from `implreg.sampled.sample`.
        values: the network's outputs at the same positions, (P, T, C).
        path: which path.
        outputs: which to draw in colour, at most 6. By default the three that are largest somewhere
            on the path. The others are thin, or a band if they are many.

    Raises:
        InputError: `values` of another shape than the slopes; a path or an output that there is
            not.

    Source: figure 1 of Kubo et al. (2019).
    """
    if values.shape != samples.slopes.shape:
        raise InputError(
            f"values must have the shape of the slopes, {tuple(samples.slopes.shape)}, got "
            f"{tuple(values.shape)}; pass the network's outputs at the positions samples.t."
        )
    if type(path) is bool or path not in range(len(samples)):
        raise InputError(
            f"path must be a number from 0 to {len(samples) - 1}, got {path!r}; choose one of the "
            f"sampled paths."
        )
    t = _array(samples.t).astype(np.float64)
    phi, slopes, counts = (_array(x[path]) for x in (values, samples.slopes, samples.counts))
    chosen = _chosen(phi, outputs)
    keep = np.union1d([0], _apart(t, 1))
    # Where several intervals are drawn as one, their mean.
    switches = np.add.reduceat(counts, keep[:-1]) / np.diff(keep)
    others = np.delete(phi, chosen, axis=1)
    with style():
        canvas = new_figure(6.0)
        top, middle, bottom = canvas.subplots(3, 1, sharex=True, height_ratios=[2.6, 2.6, 1.1])
        handles = [Line2D([], [], color=CATEGORIES[i], linewidth=2.4, label=_name(phi, c))
                   for i, c in enumerate(chosen)]  # fmt: skip
        if others.shape[1] > _LINES:
            low, high = others[keep].min(axis=1), others[keep].max(axis=1)
            band = top.fill_between(t[keep], low, high, color=MUTED, alpha=0.25, linewidth=0)
            band.set_label("range of the other outputs")
            handles.append(band)
        elif others.shape[1]:
            top.plot(t[keep], others[keep], color=MUTED, alpha=0.45, linewidth=1)
            handles.append(Line2D([], [], color=MUTED, alpha=0.5, label="other outputs"))
        for i, output in enumerate(chosen):
            top.plot([0, 1], phi[[0, -1], output], "--", color=MUTED, linewidth=1.6)
            top.plot(t[keep], phi[keep, output], color=CATEGORIES[i], linewidth=2.2)
            middle.plot(t[keep], slopes[keep, output], color=CATEGORIES[i], linewidth=1.4)
        bottom.stairs(switches, t[keep], color=INK, fill=True, linewidth=0)
        for panel, label, ticks in (
            (top, "output φ(t)", 5),
            (middle, "slope dφ/dt", 5),
            (bottom, "switches per\ninterval", 3),
        ):
            panel.set_ylabel(label)
            panel.yaxis.set_major_locator(round_ticks(ticks))
        for panel, letter in ((top, "a"), (middle, "b"), (bottom, "c")):
            panel.set_title(letter, loc="left", fontweight="bold")
        sampled = f"sampled at {len(t):,} positions"
        top.set_title(sampled, loc="right", color=MUTED)
        bottom.set_xlim(0, 1)
        bottom.set_xlabel("position t on the path")
        handles.append(Line2D([], [], color=MUTED, ls="--", label="chord"))
        legend(canvas, handles)
    text = (
        f"Outputs and slopes along one path from t = 0 to 1, {sampled}, with {counts.sum():,} "
        f"switches between neighbours. Outputs are drawn as lines over their dashed chords, slopes "
        f"as lines, switches per interval as columns."
    )
    for output in chosen:
        own, slope = phi[:, output], slopes[:, output]
        off = np.abs(own - np.interp(t, [0, 1], own[[0, -1]])).max()
        text += (
            f" {_name(phi, output).capitalize()} goes from {number(own[0])} to {number(own[-1])}, "
            f"at most {number(off)} from its chord; its slope lies between {number(slope.min())} "
            f"and {number(slope.max())}."
        )
    return show(canvas, alt=text)


def plot_gaps(trace: "Trace", output: int = 0) -> Figure:
    """Gradient gaps of one output along one path, a stem at each breakpoint.

    Args:
        trace: of one path, such as `trace[0]`.
        output: which output.

    Raises:
        InputError: a trace of several paths, or an output that the network does not have.
    """
    _check_one(trace)
    _chosen(np.atleast_2d(_array(trace.values)), [output])
    with style():
        canvas = new_figure(3.3)
        panel = canvas.add_subplot()
        handles = draw_gaps(panel, trace, output)
        panel.set_xlabel("position t on the path")
        legend(canvas, handles)
    gaps = _array(trace.gaps)[:, output]
    alt = (
        f"Stem plot of the gradient gaps of {_output(trace, output)} against position t from 0 to "
        f"{trace.segments}, {_switch_counts(trace)}."
    )
    if len(gaps):
        alt += (
            f" Gaps lie between {number(gaps.min())} and {number(gaps.max())}, "
            f"{(gaps > 0).sum():,} of {len(gaps):,} are positive, and the gradient gap deviation "
            f"is {number(_deviation(gaps))}."
        )
    return show(canvas, alt=alt)


def draw_outputs(
    panel: Axes, trace: "Trace", chosen: Sequence[int], *, chord: bool = True, others: bool = True
) -> None:
    """Draw the outputs against t, the chosen ones in colour over their chords."""
    knots, values, _ = knots_of(trace)
    keep = _apart(knots, trace.segments)
    vertices, corners = _vertices(trace)
    if others:
        for other in np.delete(np.arange(values.shape[1]), list(chosen)):
            panel.plot(knots[keep], values[keep, other], color=MUTED, alpha=0.45, linewidth=1)
    for i, output in enumerate(chosen):
        if chord:
            panel.plot(vertices, corners[:, output], "--", color=MUTED, linewidth=1.6)
        panel.plot(knots[keep], values[keep, output], color=CATEGORIES[i], linewidth=2.2)
    _label(panel, trace, "output φ(t)")


def draw_slopes(panel: Axes, trace: "Trace", chosen: Sequence[int]) -> None:
    """Draw the slopes of the chosen outputs against t, piece by piece."""
    knots, _, slopes = knots_of(trace)
    keep = _apart(knots[:-1], trace.segments)
    for i, output in enumerate(chosen):
        panel.step(np.append(knots[:-1][keep], knots[-1]),
                   np.append(slopes[keep, output], slopes[-1, output]), where="post",
                   color=CATEGORIES[i], linewidth=1.6)  # fmt: skip
    _label(panel, trace, "slope dφ/dt")


def draw_gaps(panel: Axes, trace: "Trace", output: int) -> list[Line2D]:
    """Draw a stem per gradient gap, coloured by layer; return one handle per layer and more."""
    t, gaps, layer = _array(trace.t), _array(trace.gaps)[:, output], _array(trace.layer)
    handles = []
    panel.axhline(0, color=MUTED, linewidth=1)
    for i, colour in enumerate(layer_colours(len(trace.layers))):
        here = layer == i
        x, y = _stems(t[here], np.zeros(int(here.sum())), gaps[here])
        panel.plot(x, y, color=colour, linewidth=1.3)
        marker = MARKERS[i % len(MARKERS)]
        if len(t) <= 400:
            panel.plot(t[here], gaps[here], marker, color=colour, markersize=4.5)
        handles.append(Line2D([], [], color=colour, marker=marker, label=f"layer {i + 1}"))
    if len(t):
        for sign in (-1, 1):
            panel.axhline(sign * _deviation(gaps), color=INK, ls=":", linewidth=1.4)
        handles.append(Line2D([], [], color=INK, ls=":", label="± gradient gap deviation"))
    _label(panel, trace, "gradient gap")
    return handles


def describe(
    trace: "Trace", chosen: Sequence[int], *, chord: bool = True, deflection: bool = False
) -> str:
    """Alt text of the outputs and slopes of one path."""
    knots, values, slopes = knots_of(trace)
    vertices, corners = _vertices(trace)
    straight = trace.segments == 1
    path = "one path" if straight else f"one path of {trace.segments} straight segments"
    lines = "lines over their dashed chords" if chord else "lines"
    text = (
        f"Outputs and slopes along {path} from t = 0 to {trace.segments}, {_switch_counts(trace)}. "
        f"Outputs are drawn as {lines}, slopes as steps, breakpoints as ticks per layer."
    )
    chords = "its chord" if straight else "its chords"
    for output in chosen:
        phi, slope = values[:, output], slopes[:, output]
        off = float(np.abs(phi - np.interp(knots, vertices, corners[:, output])).max())
        text += (
            f" {_output(trace, output).capitalize()} goes from {number(phi[0])} to "
            f"{number(phi[-1])}, at most {number(off)} from {chords}; its slope lies between "
            f"{number(slope.min())} and {number(slope.max())}"
        )
        if len(trace.t):
            deviation = _deviation(_array(trace.gaps)[:, output])
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
    knots = np.append(_array(trace.piece_start).astype(np.float64), trace.segments)
    return knots, np.concatenate([_array(trace.values), _array(trace.ends)]), _array(trace.slopes)


def _vertices(trace: "Trace") -> tuple[Floats, Floats]:
    """Positions of the ends and corners, (N + 1,), and the outputs there, (N + 1, C)."""
    knots, values, _ = knots_of(trace)
    positions = np.arange(trace.segments + 1, dtype=np.float64)
    return positions, values[np.searchsorted(knots, positions)]


def layer_colours(layers: int) -> list[str]:
    """One colour per layer, from first to last."""
    return [STEPS[i] for i in np.linspace(0, len(STEPS) - 1, layers).round().astype(int)]


def _middle(slope: Floats) -> tuple[float, float]:
    """Slope after half of the switches, and the mean of the end slopes."""
    return float(slope[(len(slope) - 1) // 2]), float(slope[0] + slope[-1]) / 2


def _draw_deflection(panel: Axes, trace: "Trace", chosen: Sequence[int]) -> None:
    """A bar from the mean of the end slopes to the slope after half of the switches."""
    knots, _, slopes = knots_of(trace)
    half = len(trace.t) // 2
    at = (knots[half] + knots[half + 1]) / 2
    for output in chosen:
        middle, mean = _middle(slopes[:, output])
        panel.plot([0, 1], [mean, mean], ":", color=MUTED, linewidth=1.4)
        panel.plot([at, at], [mean, middle], color=INK, linewidth=2.6, zorder=5)


def _draw_breakpoints(panel: Axes, trace: "Trace") -> None:
    t, layer = _array(trace.t), _array(trace.layer)
    layers = len(trace.layers)
    for i, colour in enumerate(layer_colours(layers)):
        here = t[layer == i]
        here = here[_apart(here, trace.segments)]
        panel.plot(*_stems(here, np.full(len(here), i - 0.38), np.full(len(here), i + 0.38)),
                   color=colour, linewidth=0.9)  # fmt: skip
    panel.set_yticks(range(layers), [f"layer {i + 1}" for i in range(layers)])
    panel.set_ylim(layers - 0.5, -0.5)
    panel.set_xlim(0, trace.segments)
    panel.tick_params(axis="y", length=0)
    panel.grid(False)
    panel.spines["left"].set_visible(False)


def _stems(x: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Separate vertical strokes as one line, which is small as SVG."""
    gap = np.full(len(x), np.nan)
    return np.repeat(x, 3), np.stack([low, high, gap], axis=1).ravel()


def _apart(t: Floats, length: int) -> NDArray[np.int64]:
    """Indices that keep one entry per hair of the path, and the last."""
    hairs = np.floor(t * _HAIRS / length)
    return np.flatnonzero(np.append(hairs[1:] != hairs[:-1], True)) if len(t) else np.arange(0)


def _label(panel: Axes, trace: "Trace", label: str) -> None:
    panel.set_ylabel(label)
    panel.set_xlim(0, trace.segments)
    for corner in range(1, trace.segments):
        panel.axvline(corner, color=MUTED, alpha=0.5, linewidth=1)
    panel.yaxis.set_major_locator(round_ticks(5))


def _chosen(values: Floats, outputs: Sequence[int] | None) -> list[int]:
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


def _output(trace: "Trace", output: int) -> str:
    return _name(trace.values, output)


def _name(values: Tensor | Floats, output: int) -> str:
    return "the output" if values.shape[1] == 1 else f"output {output}"


def _switch_counts(trace: "Trace") -> str:
    layer = _array(trace.layer)
    counts = [int((layer == i).sum()) for i in range(len(trace.layers))]
    split = ", ".join(f"{count:,} of layer {i + 1}" for i, count in enumerate(counts))
    return f"with {len(layer):,} breakpoints" + (f" ({split})" if len(counts) > 1 else "")


def _deviation(gaps: Floats) -> float:
    return float(np.sqrt(np.mean(gaps**2)))


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
