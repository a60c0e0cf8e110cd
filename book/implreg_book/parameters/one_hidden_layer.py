"""Parameters of the chapter "One hidden layer"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import Parameters as Base
from implreg_book.parameters.schema import parameter

_ANGLE: common.Rules = {"unit": "radians", "low": 0.001, "high": 3.14}
_NORM: common.Rules = {"low": 0.01, "high": 100}


@dataclass(frozen=True, kw_only=True)
class Parameters(Base):
    """Random networks against the closed forms for one hidden layer."""

    chapter = "one-hidden-layer"
    seconds = 135

    depths: tuple[int, ...] = parameter(
        (1, 2, 3), "hidden layers of the networks that are checked", low=1, high=20, order="rising"
    )
    angles: tuple[float, ...] = parameter(
        (0.5, 1.5, 2.5), "between the two samples", order="rising", share=0.8, **_ANGLE
    )
    norms: tuple[float, ...] = parameter(
        (1.0, 2.0), "of the second sample, over that of the first", order="distinct", **_NORM
    )
    sigma_bs: tuple[float, ...] = parameter(
        (0.0, 0.5), "deviations of the hidden biases", low=0, high=10, order="distinct"
    )
    networks: int = parameter(
        300, "independent networks per setting", share=0.8, **common.SEEDS | {"low": 2}
    )
    width: int = parameter(256, "units of each hidden layer", **common.WIDTH)
    inputs: int = parameter(20, "dimension of the samples", low=2, high=10_000)
    outputs: int = parameter(10, "outputs of the networks", low=1, high=1000)
    seed: int = parameter(0, "of the first network", **common.SEED)
    walks: int = parameter(
        60, "independent networks for the random walk", share=0.2, **common.SEEDS
    )
    walk_width: int = parameter(1024, "hidden units of those with one hidden layer", **common.WIDTH)
    walk_angle: float = parameter(1.5, "between the two samples of their pairs", **_ANGLE)
    walk_norm: float = parameter(2.0, "of the second sample, over that of the first", **_NORM)
    pairs: int = parameter(64, "pairs per network for the random walk", **common.PAIRS)

    def together(self) -> None:
        """Refuse norms and deviations of biases that are written alike in the tables."""
        for name in ("norms", "sigma_bs"):
            values = getattr(self, name)
            written = {f"{value:g}" for value in values}
            self.require(name, len(written) == len(values), "differ in their first six digits")
