"""Parameters of the chapter "Optimiser"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter

_ENTRIES = 20_000  # samples times outputs, of a side of the kernel with the squared loss
_STEPS: common.Rules = common.RATE | {"order": "distinct", "most": 6}


@dataclass(frozen=True, kw_only=True)
class Parameters(common.Ablation):
    """Other ways down the same loss, and gradient descent on the squared loss."""

    chapter = "optimiser"
    seconds = 560

    steps: tuple[float, ...] = parameter((0.02, 0.3, 1.0), "other step sizes of SGD", **_STEPS)
    batches: tuple[int, ...] = parameter(
        (8, 32), "other batches", order="distinct", most=6, **common.BATCH
    )
    descent_steps: tuple[float, ...] = parameter(
        (0.1, 0.5), "of gradient descent, besides that of the reference", **_STEPS
    )
    adam_steps: tuple[float, ...] = parameter((0.001, 0.01), "of Adam", **_STEPS)
    momentum: float = parameter(
        0.9,
        "once with the reference's step, once with (1 - momentum) times that",
        low=0.01,
        high=0.999,
    )
    label_noise: float = parameter(
        0.05, "share of labels that each step replaces at random", low=0.001, high=0.9
    )
    squared_dataset: str = parameter(
        "digits", "data of the networks with the squared loss", **common.DATA
    )
    squared_train: int = parameter(50, "their training samples", **common.TRAIN)
    squared_width: int = parameter(256, "their hidden units", **common.WIDTH)
    squared_seeds: int = parameter(6, "networks per step size", **common.SEEDS)
    squared_steps: int = parameter(2000, "of gradient descent", **common.STEPS)
    shares: tuple[float, ...] = parameter(
        (0.5, 1.0, 1.5, 2.0, 2.5),
        "steps, over the largest initially stable one",
        low=0.01,
        high=10,
        order="rising",
    )

    def together(self) -> None:
        """Refuse, besides what the data do, a reference without noise, or no way with more of it.

        With the squared loss, refuse kernels that no memory holds.
        """
        super().together()
        self.require("batch", self.batch < self.train, "be below train, else there is no noise")
        self.require("batches", min(self.batches) < self.batch, "hold one below batch")
        self.check_train("squared_dataset", "squared_train")
        most = _ENTRIES // common.DATASETS[self.squared_dataset].classes
        self.require(
            "squared_train",
            self.squared_train <= most,
            f"be at most {most:,} with squared_dataset {self.squared_dataset}",
        )
