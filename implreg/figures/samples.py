"""The figure of one path that was sampled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from implreg.errors import InputError
from implreg.figures.display import CATEGORIES, INK, MUTED, Figure, legend, new_figure, show, style
from implreg.figures.paths import apart, chosen_outputs, draw_lines, label, named, told

if TYPE_CHECKING:
    from implreg.sampled import Samples


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

    Returns:
        A figure that a notebook displays in light and dark, with an alternative text.

    Raises:
        InputError: `values` of another shape than the slopes; a path or an output that there is
            not.

    Source: figure 1 of Kubo et al. (2019).

    >>> import torch
    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 20, 2, seed=0).double(), (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> samples = ir.sampled.sample(net, ends, points=50)
    >>> x = torch.lerp(*(end.double() for end in ends), samples.t[:, None])
    >>> plot_samples(samples, net(x)[None]).alt
    'Outputs and slopes along one path from t = 0 to 1, sampled at 50 positions, ...'
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
    t = samples.t.numpy(force=True).astype(np.float64)
    phi, slopes, counts = (
        x[path].numpy(force=True) for x in (values, samples.slopes, samples.counts)
    )
    chosen = chosen_outputs(phi, outputs)
    keep = np.union1d([0], apart(t, 1))
    # Where several intervals are drawn as one, their mean.
    switches = np.add.reduceat(counts, keep[:-1]) / np.diff(keep)
    sampled = f"sampled at {len(t):,} positions"
    with style():
        canvas = new_figure(6.0)
        top, middle, bottom = canvas.subplots(3, 1, sharex=True, height_ratios=[2.6, 2.6, 1.1])
        handles = draw_lines(top, t[keep], phi[keep], chosen, phi[[0, -1]])
        for i, output in enumerate(chosen):
            middle.plot(t[keep], slopes[keep, output], color=CATEGORIES[i], linewidth=1.4)
        bottom.stairs(switches, t[keep], color=INK, fill=True, linewidth=0)
        labels = (("output φ(t)", 5), ("slope dφ/dt", 5), ("switches per\ninterval", 3))
        for panel, letter, (text, ticks) in zip((top, middle, bottom), "abc", labels, strict=True):
            label(panel, text, ticks=ticks)
            panel.set_title(letter, loc="left", fontweight="bold")
        top.set_title(sampled, loc="right", color=MUTED)
        bottom.set_xlabel("position t on the path")
        legend(canvas, handles)
    alt = (
        f"Outputs and slopes along one path from t = 0 to 1, {sampled}, with {counts.sum():,} "
        f"switches between neighbours. Outputs are drawn as lines over their dashed chords, slopes "
        f"as lines, switches per interval as columns."
    )
    for c in chosen:
        alt += told(named(phi, c), t, phi[:, c], slopes[:, c], phi[[0, -1], c]) + "."
    return show(canvas, alt=alt)
