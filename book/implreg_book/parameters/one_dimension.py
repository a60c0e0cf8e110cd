"""Parameters of the chapter "One dimension"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import Parameters as Base
from implreg_book.parameters.schema import parameter

_POINTS: common.Rules = {"low": -10, "high": 10, "least": 4}


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
    spread: float = parameter(1.0, "deviation of the biases of the Gaussian start", **common.SCALE)
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
    steps: int = parameter(120000, "of gradient descent, at most", **common.STEPS)
    loss: float = parameter(
        1e-8, "mean of squared errors at which training stops", low=1e-16, high=1
    )
    shown: int = parameter(3, "networks drawn in a figure", low=1, high=20)
    seed: int = parameter(1000, "of the first network", **common.SEED)

    def together(self) -> None:
        """Refuse targets without samples, and scales at which nothing is trained."""
        for name in ("y", "y_same"):
            one = len(getattr(self, name)) == len(self.x)
            self.require(name, one, f"have as many numbers as x, {len(self.x)}")
        for name in ("adaptive_scale", "kernel_scale"):
            one = getattr(self, name) in self.scales
            self.require(name, one, f"be one of scales, {list(self.scales)}")
