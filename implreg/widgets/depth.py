"""Why gaps anti-correlate with depth: the slope beside its own gaps in random order."""

import numpy as np
import traitlets

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, new_figure, number
from implreg.tracing import Trace, trace
from implreg.widgets.bundle import notebook_module
from implreg.widgets.explorer import Explorer
from implreg.widgets.random_networks import mix_in, random_network, start
from implreg.widgets.walk import samples

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
    >>> len(explorer.traces)
    100
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
    _esm = notebook_module(name)

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
        """The slope against the switches passed, and its own gaps in random order."""
        path = trace(random_network(2, self.width, self.depth, seed=self.seed), samples(self.angle))
        slopes, gaps = (x[:, 0].numpy() for x in (path.slopes, path.gaps))
        orders = [
            np.argsort(mix_in(mix_in(start(), self.shuffle * ORDERS + k), np.arange(len(gaps))))
            for k in range(ORDERS)
        ]
        walks = [slopes[0] + np.concatenate([[0], gaps[order].cumsum()]) for order in orders]
        shares = np.arange(len(slopes)) / max(len(gaps), 1)
        with style():
            canvas = new_figure(3.6)
            panel = canvas.add_subplot()
            for k, walk in reversed(list(enumerate(walks))):
                alpha, thick = (0.35, 1) if k else (1, 1.6)
                panel.plot(shares, walk, color=CATEGORIES[1], alpha=alpha, linewidth=thick)
            panel.plot(shares, slopes, color=CATEGORIES[0], linewidth=2)
            panel.set_xlabel("share of the switches passed")
            panel.set_ylabel("slope dφ/dt")
        spread = max(float(np.ptp(walk)) for walk in walks)
        return show(canvas, alt=(
            f"Slope of a random network with {self.depth} hidden layers against the share of its "
            f"{len(gaps):,} switches passed, and {ORDERS} walks of the same gaps in random order, "
            f"from the same start to the same end. The slope spans {number(float(np.ptp(slopes)))},"
            f" the widest walk {number(spread)}."
        ))  # fmt: skip
