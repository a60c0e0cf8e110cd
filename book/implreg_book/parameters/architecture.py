"""Parameters of the chapter "Architecture"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.Ablation):
    """Networks of other depths, activations, layers and normalisations."""

    chapter = "architecture"
    seconds = 680

    width: int = parameter(256, "hidden units of the reference", **common.WIDTH | {"low": 4})
    target_losses: tuple[float, ...] = parameter(
        (0.3, 0.1, 0.01), "of training; the test is at the last", most=6, **common.LOSSES
    )
    # Steps of 100 let the averages of a batch norm overflow, although the loss is finite.
    learning_rate: float = parameter(
        0.1, "step size after the warm-up", **common.RATE | {"high": 10}
    )
    depths: tuple[int, ...] = parameter(
        (2, 3, 5, 8),
        "other numbers of hidden layers, with as many parameters",
        low=2,
        high=50,
        most=6,
        order="rising",
    )
    leaks: tuple[float, ...] = parameter(
        (0.1, 0.5),
        "slopes of the activations below zero",
        low=0.001,
        high=0.99,
        most=6,
        order="rising",
    )
    deep: int = parameter(
        5, "hidden layers with skip connections and with batch norm", low=2, high=50
    )
    channels: tuple[int, ...] = parameter(
        (8, 16), "of the layers of the convolutional network", low=1, high=512, most=6
    )

    def together(self) -> None:
        """Refuse, besides what the data do, depths and batches that cannot be compared."""
        super().together()
        self.require("deep", self.deep in self.depths, f"be one of depths, {list(self.depths)}")
        # Of a single sample there is no variance to divide by.
        self.require(
            "batch",
            self.batch > 1 and self.train % self.batch != 1,
            f"leave no single sample of {self.train:,} for a step, for batch norm",
        )
