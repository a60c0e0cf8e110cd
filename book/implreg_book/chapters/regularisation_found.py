"""Chapter "Labels and explicit regularisation": what is compared, and how its bends compare."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from implreg_book.chapters import same_loss
from implreg_book.chapters.compared import reference_of
from implreg_book.chapters.same_loss import Ratios
from implreg_book.evidence import rules
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments import ablations, conditions
from implreg_book.experiments import regularisation as experiment
from implreg_book.parameters.regularisation import Parameters
from implreg_book.runs.grids import Grid, Grids

REFERENCE = ablations.REFERENCE
QUANTITIES = {
    "deflection": "gradient deflection",
    "normalized_deflection": "normalised deflection",
    "straightness": "fluctuation / edge margin",
    "test_error": "test error",
}
DEFLECTION, NORMALISED, STRAIGHTNESS, ERROR = QUANTITIES.values()
KINDS = {
    "random labels": "random_labels",
    "weight decay": "weight_decays",
    "dropout": "dropouts",
    "mixup": "mixups",
    "input noise": "input_noises",
    "shifts": "shifts",
}
EXPLICIT = list(KINDS)[1:]
FITTED = 0.01  # share of labels that a network may have wrong and has learned by heart


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        table: one row for each network and loss, see `implreg_book.experiments.ablations.run`.
        between: one row for each network with mixup, loss and kind of pairs, see
            `experiments.regularisation.run`.
        courses: outputs along paths, see `experiments.regularisation.profile`.
        memory: networks on random labels with explicit regularisation, as `table`.
        classes: of the data set.
    """

    p: Parameters
    table: pd.DataFrame
    between: pd.DataFrame
    courses: pd.DataFrame
    memory: pd.DataFrame
    classes: int

    @cached_property
    def of_kind(self) -> dict[str, list[str]]:
        """The conditions of each kind, the strongest last."""
        names = changes(self.p, self.p.cap)
        return {kind: [name for name in names if name.startswith(kind)] for kind in KINDS}

    @property
    def strongest(self) -> dict[str, str]:
        """The strongest condition of each kind."""
        return {kind: names[-1] for kind, names in self.of_kind.items()}

    @property
    def explicit(self) -> list[str]:
        """All conditions with explicit regularisation."""
        return [name for kind in EXPLICIT for name in self.of_kind[kind]]

    @property
    def names(self) -> list[str]:
        """All conditions but the reference."""
        return [*self.of_kind["random labels"], *self.explicit]

    @property
    def tests(self) -> int:
        """How many intervals of ratios to the reference hold at once."""
        return len(QUANTITIES) * len(self.names)

    def at(self, loss: float) -> pd.DataFrame:
        """The networks at a loss, or where training ended."""
        return self.table[self.table.target_loss == loss]

    @property
    def test(self) -> pd.DataFrame:
        """The networks at the loss of the test."""
        return self.at(self.p.test_loss)

    @property
    def last(self) -> pd.DataFrame:
        """The networks at the last loss, or where training ended."""
        return self.at(self.p.target_losses[-1])

    @cached_property
    def by_loss(self) -> dict[float, Ratios]:
        """Ratios to the reference at each loss."""
        return {
            loss: same_loss.ratios(self.at(loss), QUANTITIES, self.names, tests=self.tests)
            for loss in self.p.target_losses
        }

    @property
    def ratios(self) -> Ratios:
        """Those that are tested."""
        return self.by_loss[self.p.test_loss]

    def paired(self, column: str) -> Mapping[str, Estimate]:
        """Another quantity over that of the reference, with intervals one by one."""
        return same_loss.ratios(self.test, {column: column}, self.names)[column]

    @property
    def trained(self) -> bool:
        """Whether the networks that reached the loss of the test have learned something."""
        return rules.trained(self.test[self.test.reached].train_error)

    @cached_property
    def bends(self) -> dict[str, Outcome]:
        """Hypotheses 1 to 3: what random labels and each kind of regularisation do."""
        ratios, tested = self.ratios[DEFLECTION], self.trained
        labels = [ratios[name] for name in self.of_kind["random labels"]]
        found = {"random labels bend": Outcome.NOT_TESTED}
        if tested and any(x.n for x in labels):
            found["random labels bend"] = rules.decide(
                all(map(rules.larger, labels)), any(rules.smaller(x, rules.SAME) for x in labels)
            )
        for kind in EXPLICIT:
            parts = [(rules.falls, ratios[self.strongest[kind]])]
            found[f"{kind} straightens"] = same_loss.judged(tested, parts)
        mixed = ratios[self.strongest["mixup"]]
        others = [ratios[self.strongest[kind]] for kind in EXPLICIT if kind != "mixup"]
        straightens = found["mixup straightens"]
        if straightens is Outcome.NOT_TESTED or not any(x.n for x in others):
            return found | {"mixup straightens most": Outcome.NOT_TESTED}
        most = rules.decide(
            all(rules.larger(x, mixed.high) for x in others),
            straightens is Outcome.NOT_SUPPORTED
            or any(rules.smaller(x, mixed.low) for x in others),
        )
        return found | {"mixup straightens most": most}


def changes(p: Parameters, cap: int) -> conditions.Conditions:
    """How each condition differs from the reference, trained for `cap` epochs at most."""
    strengths = {name: getattr(p, name) for name in KINDS.values()}
    return conditions.regularisers(reference_of(p), **strengths, cap=cap)


def grids(p: Parameters) -> Grids:
    """Every condition; mixup on pairs of both kinds; and regularisation with random labels."""
    usual, uncapped = reference_of(p), changes(p, p.epochs)
    mixed = {name: change for name, change in uncapped.items() if name.startswith("mixup")}
    plain = replace(usual, target_losses=p.mixup_losses)
    between = [experiment.Config(c) for c in ablations.grid(plain, mixed, p.further_seeds)]
    strongest = {kind: name for kind in EXPLICIT for name in uncapped if name.startswith(kind)}
    fully = {
        name: uncapped[name]
        | {"random_labels": 1.0}
        | {"recipe": uncapped[name]["recipe"] | {"epochs": p.heart_epochs}}
        for name in strongest.values()
    }
    least = replace(usual, target_losses=(p.test_loss,))
    memory = [
        config
        for config in ablations.grid(least, fully, p.further_seeds)
        if config.condition != REFERENCE
    ]
    first = [config for config in between if config.network.seed == 0]
    return {
        "table": Grid(ablations.run, ablations.grid(usual, changes(p, p.cap), p.seeds), "networks"),
        "between": Grid(experiment.run, between, "networks with mixup"),
        "courses": Grid(experiment.profile, first, "courses"),
        "memory": Grid(ablations.run, memory, "networks with random labels"),
    }
