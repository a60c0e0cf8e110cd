"""Parameters of the chapter "Where it fails"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter

_MOST = 10_000  # samples of which all pairs fit into memory


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """Networks off the data, with Fourier features, and with smooth activations."""

    chapter = "where-it-fails"
    seconds = 150

    dataset: str = parameter("digits", "data set of the first two sections", **common.DATA)
    train: int = parameter(
        0, "its training samples; 0 for all", **common.TRAIN | {"low": 0, "high": _MOST}
    )
    width: int = parameter(256, "hidden units there", **common.WIDTH)
    seeds: int = parameter(20, "independent networks there", share=0.3, **common.SEEDS)
    learning_rate: float = parameter(0.05, "of SGD there, after the warm-up", **common.RATE)
    warmup_epochs: int = parameter(
        10, "over which the learning rate rises linearly from 1e-5", **common.WARMUP
    )
    epochs: int = parameter(200, "of training there", **common.EPOCHS)
    batch: int = parameter(128, "samples per step there", **common.BATCH)
    pairs: int = parameter(128, "paths of each kind per network", **common.PAIRS)
    coordinate_seeds: int = parameter(
        10, "signals, each with networks of its own", share=0.4, **common.SEEDS
    )
    points: int = parameter(12, "at which a signal is known", low=4, high=1000)
    frequencies: int = parameter(3, "cycles of its fastest component", low=1, high=100)
    coordinate_width: int = parameter(128, "units of each of two hidden layers", **common.WIDTH)
    features: int = parameter(64, "frequencies of the Fourier features", low=1, high=10_000)
    bandwidths: tuple[float, ...] = parameter(
        (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
        "their deviations",
        unit="cycles",
        low=0.01,
        high=1000,
        least=2,
        most=12,
        order="rising",
    )
    factors: tuple[float, ...] = parameter(
        (5.0, 10.0, 20.0, 30.0), "of the sine networks", low=0.1, high=1000, most=12, order="rising"
    )
    rate: float = parameter(0.01, "learning rate of gradient descent there", **common.RATE)
    adam_rate: float = parameter(0.001, "and of Adam", **common.RATE)
    target_loss: float = parameter(0.001, "mean square at which training stops", low=1e-10, high=10)
    steps: int = parameter(30000, "the most that it may take", **common.STEPS)
    smooth_seeds: int = parameter(
        5, "random networks in the section on smooth activations", share=0.3, **common.SEEDS
    )
    sharpness: tuple[float, ...] = parameter(
        (10.0, 100.0, 1000.0, 10000.0),
        "of softplus there",
        low=0.1,
        high=1e6,
        least=2,
        most=5,
        order="rising",
    )
    samples: tuple[int, ...] = parameter(
        (16, 64, 256, 1024, 4096, 16384, 65536),
        "intervals, powers of 2",
        low=2,
        high=2**20,
        least=2,
        order="rising",
    )

    def together(self) -> None:
        """Refuse what the data set does not have, and intervals that are not powers of 2."""
        data = common.DATASETS[self.dataset]
        if self.train:
            self.check_train("dataset", "train")
        count = self.train or data.train
        rule = f"be from 1 to {_MOST:,} with dataset {self.dataset}, as it compares all samples"
        self.require("train", count <= _MOST, rule)
        # Slopes at the decision boundary take eight times as many.
        most = count * (count // data.classes - 1) // 8
        self.require("pairs", self.pairs <= most, f"be at most {most:,} with {count} samples")
        powers = all(n & (n - 1) == 0 for n in self.samples)
        self.require("samples", powers, "be powers of 2")
