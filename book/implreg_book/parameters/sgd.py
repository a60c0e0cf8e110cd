"""Parameters of the chapter "During SGD"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter

# Faster, convolutional networks reach numbers in a few steps that no trace can follow.
_CONV_RATE = common.RATE | {"high": 1}


@dataclass(frozen=True, kw_only=True)
class Training(common.WithData):
    """Networks of three families that are measured while they train."""

    dataset: str = parameter("fashion-mnist", "data set of all networks", **common.DATA)
    train: int = parameter(2000, "training samples of the perceptrons", share=0.2, **common.TRAIN)
    widths: tuple[int, ...] = parameter(
        (64, 128, 256, 512, 1024),
        "their hidden units",
        most=6,
        **common.WIDTHS | common.NORMALISED,
    )
    seeds: int = parameter(
        5, "independent networks of each kind, each with its own pairs", share=1, **common.SEEDS
    )
    learning_rate: float = parameter(0.02, "of SGD, after the warm-up", **common.RATE)
    warmup_epochs: int = parameter(
        8, "over which the learning rate rises from 1e-5, of ResNets 1e-6", **common.WARMUP
    )
    batch: int = parameter(128, "samples per step", **common.BATCH)
    measure_at: tuple[int, ...] = parameter(
        (0, 1, 2, 5, 10, 20, 40, 70, 100),
        "epochs from 0 to the last of training",
        order="rising",
        least=2,
        **common.WARMUP,
    )
    pairs: int = parameter(128, "pairs of each kind per perceptron", share=0.2, **common.PAIRS)
    kinds: tuple[str, ...] = parameter(
        ("same", "different", "train-test"),
        "of pairs; figures show the first",
        choices=("same", "different", "train-test"),
        order="distinct",
    )
    conv_train: int = parameter(
        1000, "training samples of the convolutional networks", **common.TRAIN
    )
    side: int = parameter(
        14, "pixels to which their images are resized; 0 leaves them", **common.SIDE
    )
    convolutions: tuple[int, ...] = parameter(
        (3, 5), "of the VGG-like networks", low=3, high=8, order="rising"
    )
    vgg_factor: float = parameter(
        0.25, "of their channels and dense layers", **common.FACTOR | {"low": 0.05}
    )
    vgg_rate: float = parameter(0.05, "their learning rate", **_CONV_RATE)
    depths: tuple[int, ...] = parameter(
        (10, 16), "of the ResNets", low=10, high=154, order="rising", most=6
    )
    resnet_factor: float = parameter(0.25, "of their channels", **common.FACTOR | {"low": 0.2})
    resnet_rate: float = parameter(0.1, "their learning rate", **_CONV_RATE)
    conv_measure_at: tuple[int, ...] = parameter(
        (0, 5, 15, 40, 100, 300), "such epochs for both", order="rising", least=2, **common.WARMUP
    )
    conv_pairs: int = parameter(
        8, "pairs of each kind per convolutional network", share=0.6, **common.PAIRS
    )

    def together(self) -> None:
        """Refuse what the data set does not have, sizes that no such network has, and no start."""
        self.check_train("dataset", "train", "pairs")
        self.check_train("dataset", "conv_train", "conv_pairs")
        self.check_side("dataset", "side", least=common.VGG_SIDE)
        self.check_convolutional("convolutions", "depths")
        for name in ("measure_at", "conv_measure_at"):
            start = getattr(self, name)[0]
            self.require(name, start == 0, "begin with 0, before the first step")


@dataclass(frozen=True, kw_only=True)
class Parameters(Training):
    """The same, and networks with noisy labels."""

    chapter = "sgd"
    seconds = 2200

    noises: tuple[float, ...] = parameter(
        (0.0, 0.2), "shares of random labels in the section on errors", most=6, **common.SHARES
    )
    noise_widths: tuple[int, ...] = parameter(
        (8, 16, 32, 64, 128, 256, 512, 1024), "hidden units there", **common.WIDTHS
    )
    noise_train: int = parameter(1000, "training samples there", **common.TRAIN)
    noise_rate: float = parameter(0.1, "learning rate there", **common.RATE)
    noise_epochs: int = parameter(300, "epochs there", **common.EPOCHS)

    def together(self) -> None:
        """Refuse, besides, more noisy samples than there are."""
        super().together()
        self.check_train("dataset", "noise_train", same=False)
