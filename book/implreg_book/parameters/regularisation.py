"""Parameters of the chapter "Labels and explicit regularisation"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.Ablation):
    """Other labels, penalties and noise."""

    chapter = "regularisation"
    seconds = 700

    target_losses: tuple[float, ...] = parameter(
        (0.3, 0.1, 0.01), "of training; test_loss is one of them", most=6, **common.LOSSES
    )
    test_loss: float = parameter(
        0.1, "one of target_losses, at which the hypotheses are tested", low=1e-6, high=100
    )
    cap: int = parameter(
        450, "epochs under all other conditions, some of which never get there", **common.EPOCHS
    )
    random_labels: tuple[float, ...] = parameter(
        (0.1, 0.3, 1.0),
        "shares of labels that are random",
        low=0.01,
        high=1,
        most=6,
        order="rising",
    )
    weight_decays: tuple[float, ...] = parameter(
        (0.001, 0.003),
        "factors of half the squared norm",
        low=1e-6,
        high=10,
        most=6,
        order="rising",
    )
    dropouts: tuple[float, ...] = parameter(
        (0.2, 0.5), "shares of units left out", low=0.01, high=0.95, most=6, order="rising"
    )
    mixups: tuple[float, ...] = parameter(
        (0.2, 1.0), "alpha, of the Beta distribution", low=0.1, high=100, most=5, order="rising"
    )
    input_noises: tuple[float, ...] = parameter(
        (0.3, 1.0),
        "deviations of noise on every feature",
        low=0.001,
        high=100,
        most=6,
        order="rising",
    )
    shifts: tuple[int, ...] = parameter(
        (1,), "the most pixels by which samples are shifted", low=1, high=16, most=6, order="rising"
    )
    further_seeds: int = parameter(
        5, "networks per condition of the two further experiments", **common.SEEDS
    )
    mixup_losses: tuple[float, ...] = parameter(
        (0.3, 0.1, 0.05), "for mixup; test_loss is one of them", most=6, **common.LOSSES
    )
    heart_epochs: int = parameter(
        600, "the most for random labels with regularisation", **common.EPOCHS
    )

    def together(self) -> None:
        """Refuse, besides what the data do, a test at a loss that is not measured."""
        super().together()
        for name in ("target_losses", "mixup_losses"):
            losses = list(getattr(self, name))
            self.require("test_loss", self.test_loss in losses, f"be one of {name}, {losses}")
        side = self.side or common.DATASETS[self.dataset].side
        self.require("shifts", max(self.shifts) < side, f"be below the pixels to a side, {side}")
