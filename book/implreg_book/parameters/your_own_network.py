"""Parameters of the chapter "Your own network"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """A residual network that is not of this book, trained and traced."""

    chapter = "your-own-network"
    seconds = 120

    dataset: str = parameter(
        "fashion-mnist", "data set of images", choices=("digits", "fashion-mnist", "mnist")
    )
    train: int = parameter(1000, "training samples", **common.TRAIN)
    channels: int = parameter(
        8, "of the first stage of the residual network", low=1, high=256, unit="channels"
    )
    epochs: int = parameter(8, "of training, by SGD with momentum", **common.EPOCHS)
    batch: int = parameter(50, "samples per step", **common.BATCH)
    learning_rate: float = parameter(0.1, "of SGD at first; falls to 0", **common.RATE)
    pairs: int = parameter(4, "pairs of training samples of the same class", **common.PAIRS)
    seed: int = parameter(0, "of the network, the order of samples and the pairs", **common.SEED)
    penalties: tuple[float, ...] = parameter(
        (0.0, 0.1, 1.0), "on the deflection, in training", low=0, high=1000, order="rising", least=2
    )
    penalty_steps: int = parameter(200, "of that training", **common.STEPS)

    def together(self) -> None:
        """Refuse what the data set does not have."""
        self.check_train("dataset", "train", "pairs")
