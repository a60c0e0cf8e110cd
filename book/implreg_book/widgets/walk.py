"""From random walk to straight line: random networks of growing width."""

import math
from functools import cache
from typing import Any

import torch
import traitlets
from torch import Tensor

import implreg.theory as theory
from implreg import measures
from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, MUTED, new_figure, number
from implreg.figures.paths import knots_of
from implreg.networks import mlp
from implreg.tracing import Trace, trace
from implreg.widgets.bundle import notebook_module
from implreg.widgets.explorer import Explorer
from implreg.widgets.random_networks import random_network
from implreg_book.widgets.scripts import JS

NETWORKS = 12
_ANGLES = range(5, 180, 5)  # of the slider


def walk_explorer() -> "WalkExplorer":
    """Explore how the slope's walk changes with the width of a random network.

    Twelve networks with one hidden layer, no biases and two inputs, drawn in the reader's browser:
    their slopes less the slope at the start, their outputs less the chord, the bands that theory
    gives for both (T4, T7), and both measures of the paper against width. Slopes, gaps and outputs
    are drawn in units of the typical slope, which does not depend on the width. Every control is an
    attribute of the result, see `WalkExplorer`.

    >>> explorer = walk_explorer()
    >>> explorer.width = 4
    >>> explorer.angle
    90
    """
    return WalkExplorer()


class WalkExplorer(Explorer):
    """The explorer that `walk_explorer` makes.

    Attributes:
        width: hidden units of each network, at most 1,024.
        angle: between the two samples, in degrees, from 1 to 179; both have norm 1.
        seed: of the first network; the others have the seeds behind it.
    """

    name = "walk"
    _esm = notebook_module(name, JS)

    width = traitlets.Int(16, min=1, max=1024).tag(sync=True)
    angle = traitlets.Int(90, min=1, max=179).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=2**30).tag(sync=True)

    expected = traitlets.Dict().tag(sync=True)

    @traitlets.default("expected")
    def _expected(self) -> dict[str, Any]:
        return {"angles": list(_ANGLES), "fluctuation": list(_fluctuations())}

    @property
    def traces(self) -> list[Trace]:
        """The traces of the networks that are shown, the bold one first."""
        ends = samples(self.angle)
        seeds = range(self.seed, self.seed + NETWORKS)
        return [trace(random_network(2, self.width, 1, seed=seed), ends) for seed in seeds]

    def still(self) -> Figure:
        """Slopes less their start and outputs less their chords, with theory's bands."""
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        ends, wide, unit = samples(self.angle), mlp(2, self.width, 1, seed=0), typical(self.angle)
        zero = torch.zeros(1, dtype=torch.float64)
        start, here, both = (
            theory.slope_covariance(wide, ends, s, other)
            for s, other in ((zero, zero), (t[:, None], t[:, None]), (zero, t[:, None]))
        )
        walk = 2 * (start + here[:, 0] - 2 * both[:, 0]).clamp(min=0).sqrt() / unit
        bend = 2 * theory.chord_deviation(wide, ends, t)[0] / unit
        with style():
            canvas = new_figure(5.6)
            top, bottom = canvas.subplots(2, 1, sharex=True)
            for panel, band, label in ((top, walk, "slope less its start"),
                                       (bottom, bend, "output less its chord")):  # fmt: skip
                panel.fill_between(t, -band, band, color=CATEGORIES[0], alpha=0.16, linewidth=0)
                panel.axhline(0, color=MUTED, linewidth=1)
                panel.set_ylabel(label)
            for k, one in reversed(list(enumerate(self.traces))):
                look = {"color": CATEGORIES[0], "linewidth": 1.8} if k == 0 else {
                    "color": MUTED, "alpha": 0.4, "linewidth": 1}  # fmt: skip
                knots, values, slopes = knots_of(one)
                values, slopes = values / unit, slopes / unit
                slope = [*slopes[:, 0], slopes[-1, 0]]
                chord = values[0, 0] + knots * (values[-1, 0] - values[0, 0])
                top.step(knots, slope - slopes[0, 0], where="post", **look)
                bottom.plot(knots, values[:, 0] - chord, **look)
            bottom.set_xlabel("position t on the path")
            bottom.set_xlim(0, 1)
        fluctuation = sum(float(measures.fluctuation(one)) for one in self.traces) / NETWORKS / unit
        units = f"{self.width:,} hidden unit{'s' if self.width > 1 else ''}"
        return show(canvas, alt=(
            f"Two panels against position t on the path, for {NETWORKS} random networks with "
            f"{units} and samples at an angle of {self.angle} degrees, in units of the typical "
            f"slope. Above, the slope less its start, with theory's band of two standard "
            f"deviations, {number(float(walk[-1]))} at the end. Below, the output less its chord, "
            f"with theory's band, {number(float(bend[50]))} in the middle; outputs stay within "
            f"{number(fluctuation)} of their chords on average."
        ))  # fmt: skip


def samples(angle: float) -> tuple[Tensor, Tensor]:
    """Two samples of the plane at an angle in degrees, of norm sqrt(2), (1, 2) each."""
    radians = math.radians(angle)
    ends = [[[1.0, 0.0]], [[math.cos(radians), math.sin(radians)]]]
    first, second = math.sqrt(2) * torch.tensor(ends, dtype=torch.float64)
    return first, second


def typical(angle: float) -> float:
    """The typical slope between those samples: the root of its mean square, at any width (T4)."""
    return 2 * math.sin(math.radians(angle) / 2)


@cache
def _fluctuations() -> tuple[float, ...]:
    """The expected fluctuation at every angle of the slider, in units of the typical slope."""
    starts, ends = zip(*(samples(angle) for angle in _ANGLES), strict=True)
    pairs = torch.cat(starts), torch.cat(ends)
    found = theory.fluctuation(mlp(2, 1, 1, seed=0), pairs).mean(dim=1)
    return tuple(float(x) / typical(angle) for x, angle in zip(found, _ANGLES, strict=True))
