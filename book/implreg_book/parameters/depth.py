"""Parameters of the chapter "Depth"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import Parameters as Base
from implreg_book.parameters.schema import parameter

_LAYERS: common.Rules = {"low": 1, "high": 50, "unit": "hidden layers"}
# In narrower networks whole layers fall silent: they do not switch, and are no wide ones.
_WIDE: common.Rules = common.WIDTH | {"low": 16}
_WEIGHTS: common.Rules = {"low": 0.01, "high": 10}


@dataclass(frozen=True, kw_only=True)
class Parameters(Base):
    """Random networks of several depths, against the theory of wide ones."""

    chapter = "depth"
    seconds = 370

    depths: tuple[int, ...] = parameter(
        (1, 2, 3, 6, 12), "hidden layers of plain networks", order="rising", least=2, **_LAYERS
    )
    middle: int = parameter(
        3, "hidden layers of the networks of all other settings", **_LAYERS | {"low": 2}
    )
    width: int = parameter(256, "units of each hidden layer", **_WIDE)
    angles: tuple[float, ...] = parameter(
        (0.05, 0.7854, 1.5708, 2.3562, 3.0),
        "between the samples",
        unit="radians",
        low=0.01,
        high=3.14,
        order="rising",
        most=6,
    )
    norms: tuple[float, ...] = parameter(
        (1.0, 2.0),
        "of the second sample, over that of the first",
        low=0.01,
        high=100,
        order="distinct",
    )
    networks: int = parameter(
        200, "independent networks per setting", share=0.9, **common.SEEDS | {"low": 4}
    )
    groups: int = parameter(10, "into which they are divided for intervals", low=2, high=1000)
    sigma_b: float = parameter(
        0.5, "deviation of the hidden biases, where there are any", **_WEIGHTS
    )
    biased_depths: tuple[int, ...] = parameter(
        (1, 2, 3, 6, 12), "hidden layers of plain networks with biases", order="rising", **_LAYERS
    )
    sigma_w: float = parameter(
        1.2, "scale of the hidden weights, where it is not that of He", **_WEIGHTS
    )
    leaks: tuple[float, ...] = parameter(
        (0.1, 0.5), "slopes of leaky ReLUs below zero", low=0.001, high=0.99, order="rising"
    )
    branch: float = parameter(0.5, "scale of the branches of residual blocks", low=0.01, high=10)
    narrow: int = parameter(
        16, "units per layer of networks for which the limit is far", **_WIDE | {"low": 8}
    )
    narrow_networks: int = parameter(2000, "how many of these", low=4, high=100_000)
    widths: tuple[int, ...] = parameter(
        (64, 128, 256, 512), "for the dependence on width", **common.WIDTHS | {"low": 16}
    )
    inputs: int = parameter(20, "dimension of the samples", low=2, high=10_000)
    outputs: int = parameter(10, "outputs of the networks", low=1, high=1000)
    seed: int = parameter(0, "of the first network", **common.SEED)

    def together(self) -> None:
        """Refuse groups without two networks each, and angles that are written alike."""
        for name in ("networks", "narrow_networks"):
            rule = f"be at least twice groups, {2 * self.groups}"
            self.require(name, getattr(self, name) >= 2 * self.groups, rule)
        written = {f"{angle:.2f}" for angle in self.angles}
        self.require("angles", len(written) == len(self.angles), "differ by 0.01 or more")
