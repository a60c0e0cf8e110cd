"""Parameters of the chapter "Anatomy of a path"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """One network, trained here, and the paths between some pairs."""

    chapter = "anatomy"
    seconds = 15

    dataset: str = parameter("digits", "data set", **common.DATA)
    train: int = parameter(1000, "training samples", share=0.7, **common.TRAIN)
    widths: tuple[int, ...] = parameter((128, 128), "hidden layers of the network", **common.WIDTH)
    learning_rate: float = parameter(0.05, "of SGD, after the warm-up", **common.RATE)
    warmup_epochs: int = parameter(
        10, "over which the learning rate rises linearly from 1e-5", **common.WARMUP
    )
    epochs: int = parameter(100, "of training", share=0.7, **common.EPOCHS)
    kind: str = parameter("same", "classes of the pairs", **common.KIND)
    pairs: int = parameter(64, "pairs traced; the figures show one of them", **common.PAIRS)
    pair: int = parameter(0, "which pair the figures show", low=0, high=9_999)
    seed: int = parameter(0, "of the network, the pairs and the order of samples", **common.SEED)
    samples: int = parameter(
        1000, "evenly spaced points of the sampled count of switches", low=2, high=100_000
    )

    def together(self) -> None:
        """Refuse what the data set does not have, and a pair that is not traced."""
        self.check_train("dataset", "train", "pairs")
        self.require("pair", self.pair < self.pairs, f"be below pairs, {self.pairs}")
