"""Parameters of the chapter "Architecture"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.Ablation):
    """Networks of other depths, activations, layers and normalisations."""

    chapter = "architecture"
    seconds = 680

    depths: tuple[int, ...] = parameter(
        (2, 3, 5, 8),
        "other numbers of hidden layers, with as many parameters",
        low=2,
        high=50,
        order="rising",
    )
    leaks: tuple[float, ...] = parameter(
        (0.1, 0.5), "slopes of the activations below zero", low=0.001, high=0.99, order="rising"
    )
    deep: int = parameter(
        5, "hidden layers with skip connections and with batch norm", low=2, high=50
    )
    channels: tuple[int, ...] = parameter(
        (8, 16), "of the layers of the convolutional network", low=1, high=512
    )

    def together(self) -> None:
        """Refuse, besides what the data do, a depth with skip connections that is not compared."""
        super().together()
        self.require("deep", self.deep in self.depths, f"be one of depths, {list(self.depths)}")
