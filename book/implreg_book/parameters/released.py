"""Parameters of the chapter "What the released program measures"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """Networks that are measured exactly and at sampled points."""

    chapter = "released"
    seconds = 1050

    dataset: str = parameter("fashion-mnist", "data set of all networks", **common.DATA)
    train: int = parameter(1000, "training samples", **common.TRAIN)
    widths: tuple[int, ...] = parameter(
        (64, 256, 1024, 4096),
        "hidden units of the perceptrons",
        most=6,
        **common.WIDTHS | common.NORMALISED,
    )
    seeds: int = parameter(
        20, "independent perceptrons of each width, with their own pairs", share=0.5, **common.SEEDS
    )
    points: tuple[int, ...] = parameter(
        (30, 100, 300, 1000, 3000), "samples per path", low=3, high=100_000, least=2, order="rising"
    )
    pairs: int = parameter(
        16, "pairs of training samples of the same class per perceptron", **common.PAIRS
    )
    epochs: int = parameter(60, "of training the perceptrons", **common.EPOCHS)
    learning_rate: float = parameter(0.05, "for all networks", **common.RATE)
    warmup_epochs: int = parameter(
        5, "over which the learning rate rises from 1e-5, of ResNets 1e-6", **common.WARMUP
    )
    conv_train: int = parameter(
        1000, "training samples of the convolutional networks", **common.TRAIN
    )
    side: int = parameter(
        14, "pixels to which their images are resized; 0 leaves them", **common.SIDE
    )
    convolutions: int = parameter(3, "of the VGG-like network", low=3, high=8)
    vgg_factor: float = parameter(
        0.25, "of its channels and dense layers", **common.FACTOR | {"low": 0.1}
    )
    depth: int = parameter(10, "of the ResNet", low=10, high=154)
    resnet_factor: float = parameter(0.25, "of its channels", **common.FACTOR | {"low": 0.1})
    conv_epochs: int = parameter(60, "of training both", **common.EPOCHS)
    conv_pairs: int = parameter(8, "pairs per convolutional network", **common.PAIRS)
    conv_seeds: int = parameter(
        10, "independent convolutional networks of each kind", share=0.5, **common.SEEDS
    )

    def together(self) -> None:
        """Refuse what the data set does not have, and sizes that no such network has."""
        self.check_train("dataset", "train", "pairs")
        self.check_train("dataset", "conv_train", "conv_pairs")
        self.check_side("dataset", "side", least=common.VGG_SIDE)
        self.check_convolutional("convolutions", "depth")
