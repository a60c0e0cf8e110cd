"""Parameters of the chapter "After training"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """Networks trained by gradient descent, against the theory of the limit of infinite width."""

    chapter = "after-training"
    seconds = 380

    dataset: str = parameter("digits", "data set", **common.DATA)
    train: int = parameter(60, "training samples", **common.TRAIN)
    pairs: int = parameter(16, "pairs of training samples of the same class", **common.PAIRS)
    depth: int = parameter(2, "hidden layers", low=1, high=20)
    widths: tuple[int, ...] = parameter(
        (64, 128, 256, 512, 1024), "units of each hidden layer", **common.WIDTHS
    )
    networks: int = parameter(12, "independent networks per width", share=0.5, **common.SEEDS)
    groups: int = parameter(
        4, "into which they are divided, one after the other on each core", low=1, high=1000
    )
    wide: tuple[int, ...] = parameter(
        (1024, 4096, 16384),
        "units of networks with one hidden layer, for the limit",
        **common.WIDTHS,
    )
    wide_networks: int = parameter(6, "how many of each", share=0.3, **common.SEEDS)
    steps: int = parameter(400, "of gradient descent", **common.STEPS)
    step: float = parameter(
        0.25, "size of a step, over the largest that is stable in the limit", low=0.001, high=0.5
    )
    moments: tuple[int, ...] = parameter(
        (1, 3, 10, 30, 100, 400),
        "numbers of steps for the course of training",
        order="rising",
        **common.STEPS,
    )
    moment_width: int = parameter(
        512, "units of the networks whose course is followed", **common.WIDTH
    )
    moment_networks: int = parameter(8, "how many", **common.SEEDS)
    shares: tuple[float, ...] = parameter(
        (0.1, 0.5, 0.9, 1.5),
        "step sizes, over the largest initially stable one",
        low=0.001,
        high=10,
        order="rising",
    )
    stable_steps: int = parameter(
        1500, "of gradient descent for the bound by the step size", **common.STEPS
    )
    stable_width: int = parameter(256, "hidden units there", **common.WIDTH)
    stable_networks: int = parameter(3, "per step size", **common.SEEDS)
    seed: int = parameter(0, "of the first network", **common.SEED)

    def together(self) -> None:
        """Refuse what the data set does not have, and more groups than networks."""
        self.check_train("dataset", "train", "pairs")
        self.require(
            "groups", self.groups <= self.networks, f"be at most networks, {self.networks}"
        )
        last = self.moments[-1]
        self.require("moments", last <= self.steps, f"end by steps, {self.steps}")
        # Narrower ones have no limit to speak of: they diverge, or have no kink on the paths.
        for name, depth in (("widths", self.depth), ("wide", 1), ("moment_width", self.depth),
                            ("stable_width", 1)):  # fmt: skip
            sizes = getattr(self, name)
            narrowest = min(sizes) if isinstance(sizes, tuple) else sizes
            rule = f"be {8 * depth} or more with {depth} hidden layers"
            self.require(name, narrowest >= 8 * depth, rule)
