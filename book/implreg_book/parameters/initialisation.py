"""Parameters of the chapter "Initialisation"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """Networks from the usual start and from three others."""

    chapter = "initialisation"
    seconds = 150

    dataset: str = parameter("digits", "data set", **common.DATA)
    train: int = parameter(1000, "training samples", **common.TRAIN)
    # Of few units all are off at both ends of some path, where nothing can be normalised.
    width: int = parameter(512, "hidden units", **common.WIDTH | common.NORMALISED)
    seeds: int = parameter(
        10, "independent networks per start, each with its own pairs", share=1, **common.SEEDS
    )
    target_losses: tuple[float, ...] = parameter(
        (1.0, 0.3, 0.1, 0.03, 0.01), "of training; the test is at the last", **common.LOSSES
    )
    learning_rate: float = parameter(0.05, "of SGD, after the warm-up", **common.RATE)
    warmup_epochs: int = parameter(
        20, "over which the learning rate rises linearly from 1e-5", **common.WARMUP
    )
    epochs: int = parameter(
        1500,
        "the most that a training, and fitting random labels before, may take",
        **common.EPOCHS,
    )
    batch: int = parameter(128, "samples per step", **common.BATCH)
    scale: float = parameter(
        4.0, 'of the hidden weights of the start called "large scale"', **common.SCALE
    )
    copies: int = parameter(
        3, "of each training sample, for the adversarial start", low=1, high=100
    )
    zeroed: float = parameter(0.2, "share of their features set to zero", low=0, high=0.99)
    pairs: int = parameter(128, "pairs of training samples per network", **common.PAIRS)
    kind: str = parameter("same", "classes of a pair", **common.KIND)

    def together(self) -> None:
        """Refuse what the data set does not have."""
        self.check_train("dataset", "train", "pairs")
