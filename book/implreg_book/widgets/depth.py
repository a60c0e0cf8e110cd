"""Why gaps anti-correlate with depth: the slope beside its own gaps in random order."""

import numpy as np
import traitlets
from numpy.typing import NDArray

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, INK, MUTED, legend, new_figure, number
from implreg.networks import mlp
from implreg.theory import at_initialisation
from implreg.tracing import Trace, trace
from implreg.widgets.bundle import notebook_module
from implreg.widgets.explorer import Explorer
from implreg.widgets.random_networks import mix_in, random_network, start
from implreg_book.widgets.scripts import JS
from implreg_book.widgets.walk import samples, typical

NETWORKS = 100
ORDERS = 8


def depth_explorer() -> "DepthExplorer":
    """Explore why the gradient gaps of deep random networks cancel.

    A hundred networks without biases, with two inputs, drawn in the reader's browser: the slope of
    one beside the walks that its own gaps make in random order, the growth of the slope's variance,
    the bridge estimate over the gradient gap deviation at each depth with theory's line (T6), and
    the products of gaps within and between layers. Every control is an attribute of the result, see
    `DepthExplorer`.

    >>> explorer = depth_explorer()
    >>> explorer.depth = 2
    >>> explorer.angle
    90
    """
    return DepthExplorer()


class DepthExplorer(Explorer):
    """The explorer that `depth_explorer` makes.

    Attributes:
        depth: hidden layers, at most 8.
        width: units of each, at most 64.
        angle: between the two samples, in degrees, from 1 to 179; both have norm 1.
        seed: of the first network; the others have the seeds behind it.
        shuffle: number of the first random order of the gaps.
    """

    name = "depth"
    _esm = notebook_module(name, JS)

    depth = traitlets.Int(5, min=1, max=8).tag(sync=True)
    width = traitlets.Int(48, min=1, max=64).tag(sync=True)
    angle = traitlets.Int(90, min=1, max=179).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=2**30).tag(sync=True)
    shuffle = traitlets.Int(0, min=0, max=2**30).tag(sync=True)

    @property
    def traces(self) -> list[Trace]:
        """The traces of the networks that are pooled, the one that is drawn first."""
        ends = samples(self.angle)
        seeds = range(self.seed, self.seed + NETWORKS)
        return [trace(random_network(2, self.width, self.depth, seed=seed), ends) for seed in seeds]

    def still(self) -> Figure:
        """The slope beside its own gaps in random order, and theory's bridge ratio by depth."""
        ends, unit = samples(self.angle), typical(self.angle)
        path = trace(random_network(2, self.width, self.depth, seed=self.seed), ends)
        slopes, gaps = (x[:, 0].numpy() / unit for x in (path.slopes, path.gaps))
        orders = [random_order(len(gaps), self.shuffle * ORDERS + k) for k in range(ORDERS)]
        walks = [slopes[0] + np.append(0, gaps[order].cumsum()) for order in orders]
        shares = np.linspace(0, 1, len(slopes))
        depths = range(1, 9)
        ratios = [
            float(at_initialisation(mlp(2, *[1] * depth, 1, seed=0), ends).bridge_ratio)
            for depth in depths
        ]
        with style():
            canvas = new_figure(5.4)
            top, bottom = canvas.subplots(2, 1, height_ratios=[1.6, 1])
            for walk in walks[1:]:
                top.plot(shares, walk, color=CATEGORIES[1], alpha=0.35, linewidth=1)
            lines = top.plot(shares, walks[0], color=CATEGORIES[1], linewidth=1.6,
                             label="same gaps, random order")  # fmt: skip
            lines += top.plot(shares, slopes, color=CATEGORIES[0], linewidth=2, label="the network")
            top.set_xlabel("share of the switches passed")
            top.set_ylabel("slope")
            bottom.axhline(1, color=MUTED, linewidth=1)
            lines += bottom.plot(depths, ratios, "--", color=MUTED, label="theory")
            bottom.plot([self.depth], [ratios[self.depth - 1]], "o", color=INK)
            bottom.set_ylim(0, 1.2)
            bottom.set_xlabel("hidden layers")
            bottom.set_ylabel("bridge ratio")
            for panel, letter in ((top, "a"), (bottom, "b")):
                panel.set_title(letter, loc="left", fontweight="bold")
            legend(canvas, lines)
        own, *others = (_straying(walk) for walk in (slopes, *walks))
        layers = f"{self.depth} hidden layer{'s' if self.depth > 1 else ''}"
        return show(canvas, alt=(
            f"Slope of a random network with {layers}, in units of the typical slope, against the "
            f"share of its {len(gaps):,} switches passed, and {ORDERS} walks of the same gaps in "
            f"random order. The slope strays {number(own)} from the line between its ends; in "
            f"random order {sum(other > own for other in others)} of {ORDERS} walks stray farther. "
            f"Below, theory's bridge ratio against depth: {number(ratios[0])} with one hidden "
            f"layer, {number(ratios[self.depth - 1])} with {self.depth}, {number(ratios[-1])} with "
            f"{depths[-1]}."
        ))  # fmt: skip


def random_order(count: int, order: int) -> NDArray[np.int64]:
    """The random order that the page draws under a number, (count,)."""
    return np.argsort(mix_in(mix_in(start(), order), np.arange(count)), kind="stable")


def _straying(walk: NDArray[np.float64]) -> float:
    """How far a walk is from the line between its first and last place, at most."""
    return float(np.abs(walk - np.linspace(walk[0], walk[-1], len(walk))).max())
