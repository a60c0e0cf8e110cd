"""Parameters of the chapter "One dimension"."""

import math
from dataclasses import dataclass
from itertools import pairwise

from implreg_book.parameters import common
from implreg_book.parameters.schema import Parameters as Base
from implreg_book.parameters.schema import parameter

_POINTS: common.Rules = {"low": -10, "high": 10, "least": 4, "most": 20}


@dataclass(frozen=True, kw_only=True)
class Parameters(Base):
    """Networks with one hidden layer and one input, and the splines that they become."""

    chapter = "one-dimension"
    seconds = 220

    x: tuple[float, ...] = parameter(
        (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0), "samples", order="rising", **_POINTS
    )
    y: tuple[float, ...] = parameter(
        (-0.1, 0.3, 0.0, 0.4, 0.2, 0.5), "targets whose bends alternate in sign", **_POINTS
    )
    y_same: tuple[float, ...] = parameter(
        (0.0, 0.3, 0.1, -0.3, -0.1, -0.2), "two neighbouring bends of one sign", **_POINTS
    )
    reach: float = parameter(
        1.5, "of the breakpoints of the uniform start, on either side of 0", low=0.1, high=100
    )
    spread: float = parameter(
        1.0, "deviation of the biases of the Gaussian start", low=0.01, high=100
    )
    widths: tuple[int, ...] = parameter(
        (64, 128, 256, 512, 1024, 2048, 4096),
        "units if output weights alone learn",
        **common.WIDTHS,
    )
    networks: int = parameter(40, "of each width and start", share=0.6, **common.SEEDS)
    random_networks: int = parameter(
        10, "of each width, with random output weights at the start", **common.SEEDS
    )
    solved_widths: tuple[int, ...] = parameter(
        (512, 1024, 2048, 4096, 8192, 16384), "solved, not trained", **common.WIDTHS
    )
    solved: int = parameter(100, "networks of each of these widths and start", **common.SEEDS)
    scales: tuple[float, ...] = parameter(
        (0.3, 1.0, 3.0, 10.0, 30.0),
        "of the hidden weights if all weights learn",
        order="rising",
        **common.SCALE,
    )
    adaptive_scale: float = parameter(
        3.0, "one of them, at which the adaptive regime is tested", **common.SCALE
    )
    kernel_scale: float = parameter(
        30.0, "one of them, at which the kernel regime is tested", **common.SCALE
    )
    units: int = parameter(512, "hidden units if all weights learn", **common.WIDTH)
    scale_networks: int = parameter(10, "of each scale and data set", share=0.3, **common.SEEDS)
    group: int = parameter(20, "networks that one process trains together", low=1, high=1000)
    steps: int = parameter(120000, "of gradient descent, at most", **common.STEPS | {"low": 100})
    loss: float = parameter(
        1e-8, "mean of squared errors at which training stops", low=1e-16, high=1
    )
    shown: int = parameter(3, "networks drawn in a figure", low=1, high=6)
    seed: int = parameter(1000, "of the first network", **common.SEED)

    def together(self) -> None:
        """Refuse data that are not what the chapter is about, and what nothing can be learnt of."""
        for name in ("y", "y_same"):
            one = len(getattr(self, name)) == len(self.x)
            self.require(name, one, f"have as many numbers as x, {len(self.x)}")
        length = self.x[-1] - self.x[0]
        apart = min(b - a for a, b in pairwise(self.x)) > 0.999 * length / 40
        self.require(
            "x", apart, f"be apart by a fortieth of their span, {length / 40:.3g}, or more"
        )
        beyond = max(-self.x[0], self.x[-1])
        self.require("reach", self.reach > beyond, f"be above {beyond:g}, so as to lie beyond x")
        turns = [a * b for a, b in pairwise(self.bends(self.y))]
        rule = "bend at each sample between the first and the last, up and down in turn"
        self.require("y", max(turns) < 0, rule)
        turns = [a * b for a, b in pairwise(self.bends(self.y_same))]
        rule = "bend at each sample between the first and the last, at two neighbours alike"
        self.require("y_same", 0 not in turns and max(turns) > 0, rule)
        for name in ("y", "y_same"):
            size = sum(y**2 for y in getattr(self, name)) / len(self.x)
            rule = f"be below the mean of the squares of {name}, {size:.3g}, where training starts"
            self.require("loss", self.loss < size, rule)
        for name in ("adaptive_scale", "kernel_scale"):
            one = getattr(self, name) in self.scales
            self.require(name, one, f"be one of scales, {list(self.scales)}")
        rule = f"be above adaptive_scale, {self.adaptive_scale:g}"
        self.require("kernel_scale", self.kernel_scale > self.adaptive_scale, rule)
        # Without a breakpoint between the samples a network has no gap and no variation.
        uniform = length / (2 * self.reach)
        angle = math.atan2(self.x[-1], self.spread) - math.atan2(self.x[0], self.spread)
        for name, least, share in (
            ("widths", min(self.widths), min(uniform, angle / math.pi)),
            ("units", self.units, uniform),
        ):
            rule = (
                f"be {math.ceil(5 / share)} or more, for breakpoints of the start between samples"
            )
            self.require(name, least * share >= 5, rule)

    def bends(self, y: tuple[float, ...]) -> list[float]:
        """By how much the slope changes at each sample between the first and the last."""
        points = list(zip(self.x, y, strict=True))
        slopes = [(d - b) / (c - a) for (a, b), (c, d) in pairwise(points)]
        least = 1e-9 * max(map(abs, slopes))
        return [b - a if abs(b - a) > least else 0.0 for a, b in pairwise(slopes)]
