"""Runs of the chapter "After training", and what theory says of the same paths."""

import math
from dataclasses import dataclass, replace

import pandas as pd
import torch

from implreg import theory
from implreg.theory import Trained
from implreg_book.chapters import protocols
from implreg_book.evidence import rules
from implreg_book.evidence.statistics import Estimate, mean_interval, power_law, ratio
from implreg_book.experiments import after_training as experiment
from implreg_book.parameters.after_training import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of


@dataclass(frozen=True)
class Found:
    """What the runs have found, and what theory says of the same paths.

    Attributes:
        p: the parameters.
        table: one row for each network `before` and `after` training.
        shallow: wide networks with one hidden layer, after training.
        course: networks after other numbers of steps.
        curves: some networks along one path.
        stable: networks trained with other steps.
        known: data, paths and prediction.
        theory: what theory says of the paths before and after training.
        expected: by phase, the measures of the table by theory.
        moments: the same after other numbers of steps.
    """

    p: Parameters
    table: pd.DataFrame
    shallow: pd.DataFrame
    course: pd.DataFrame
    curves: pd.DataFrame
    stable: pd.DataFrame
    known: experiment.Task
    theory: dict[str, Trained]
    expected: dict[str, dict[str, float]]
    moments: pd.DataFrame

    @property
    def after(self) -> pd.DataFrame:
        """The networks after training."""
        return self.table[self.table.phase == "after"]

    def at(self, phase: str, width: int) -> pd.DataFrame:
        """The networks of one width, by seed."""
        rows = self.table[(self.table.phase == phase) & (self.table.width == width)]
        return rows.set_index("seed").sort_index()

    def unlearnt(self, width: int | None = None) -> pd.Series:
        """The loss of each trained network, over that of the output 0."""
        rows = self.after if width is None else self.at("after", width)
        return rows.loss / float(self.known.y.square().sum(dim=1).mean())

    @property
    def trained(self) -> bool:
        """Whether networks have learned enough for what is said of trained ones."""
        return rules.trained(self.unlearnt())

    def kept(self, width: int, column: str) -> Estimate:
        """A measure after training over before, at one width."""
        return ratio(self.at("after", width)[column], self.at("before", width)[column])

    def growth(self) -> Estimate:
        """Deflection of the widest trained networks over that of the narrowest."""
        wide, narrow = (
            self.at("after", n).quadratic_variation ** 0.5
            for n in (max(self.p.widths), min(self.p.widths))
        )
        return ratio(wide, narrow)

    def errors(self) -> tuple[tuple[Estimate, Estimate], tuple[Estimate, Estimate]]:
        """Powers of the width of the error of theory: of the outputs and of the deflection.

        Each of the networks of the table, and of the shallow ones.
        """
        outputs, bend = (
            (power_law(self.after, "width", name), power_law(self.shallow, "width", name))
            for name in ("error", "deflection_error")
        )
        return outputs, bend

    def bridge(self) -> tuple[Estimate, float]:
        """Bridge estimate of the widest trained networks over the gap deviation; by theory."""
        rows = self.at("after", max(self.p.widths))
        square = mean_interval((2 * rows.mid_path_deflection / rows.quadratic_variation**0.5) ** 2)
        config = groups(self.p, 1, 1)[0]
        paths, how = self.known.paths, config.initialisation
        start = theory.at_initialisation(network(config, self.known), paths, how)
        variation = float(start.quadratic_variation.mean())
        return square.map(root), 2 * self.expected["after"]["mid_path_deflection"] / variation**0.5


def root(square: float) -> float:
    """Of a square, 0 if an interval reaches below."""
    return math.sqrt(max(square, 0))


def network(config: experiment.Config, known: experiment.Task) -> torch.nn.Sequential:
    """The first network of a configuration before training."""
    return config.network(known.data.x_train.shape[1], known.data.classes, config.seed)


def groups(
    p: Parameters, width: int, count: int, first: int = 0, **other: int
) -> list[experiment.Config]:
    """Groups of networks, which run on different cores."""
    one = experiment.Config(
        p.dataset, p.train, p.pairs, width, other.get("depth", p.depth), 1, p.seed + first,
        other.get("steps", p.steps), p.step,
    )  # fmt: skip
    each = -(-count // p.groups)
    return [
        replace(one, networks=min(each, count - done), seed=one.seed + done)
        for done in range(0, count, each)
    ]


def grids(p: Parameters) -> Grids:
    """All runs; no two networks have a seed in common, but those that are drawn."""
    networks = [c for i, n in enumerate(p.widths) for c in groups(p, n, p.networks, i * p.networks)]
    first = len(p.widths) * p.networks
    course = [
        c
        for i, steps in enumerate(p.moments)
        for c in groups(
            p, p.moment_width, p.moment_networks, first + i * p.moment_networks, steps=steps
        )
    ]
    first += len(p.moments) * p.moment_networks
    shallow = [
        c
        for i, n in enumerate(p.wide)
        for c in groups(p, n, p.wide_networks, first + i * p.wide_networks, depth=1)
    ]
    drawn = [groups(p, max(p.widths), 1, first=i)[0] for i in range(min(5, p.networks))]
    stable = [
        experiment.Stable(
            p.dataset, p.train, p.pairs, p.stable_width, p.seed + i, p.stable_steps, share
        )
        for share in p.shares
        for i in range(p.stable_networks)
    ]
    return {
        "table": Grid(experiment.run, networks, "groups of networks"),
        "curves": Grid(experiment.curves, drawn, "curves"),
        "shallow": Grid(experiment.run, shallow, "groups of wide networks"),
        "course": Grid(experiment.run, course, "moments of training"),
        "stable": Grid(experiment.stable, stable, "networks trained to the end"),
    }


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    rate = f"{p.step:g} of the largest stable one, times the variance of a parameter"
    return {
        **protocols.of_data({p.dataset: 0}, p.train),
        **protocols.of_perceptrons(p.widths, p.networks, [p.depth]),
        **protocols.of_pairs(p.pairs),
        **protocols.of_descent("squared error", p.train, p.steps, rate),
        **protocols.TRACED,
        "pairs are": "the same for all networks",
        "measured after epochs": p.moments,
    }


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept, and calculate what theory says."""
    tables = tables_of(grids(p))
    for name, by in (("table", "width"), ("shallow", "width"), ("course", "steps")):
        rows = tables[name]
        tables[name] = rows.assign(seed=rows.network - rows.groupby(by).network.transform("min"))
    for name in ("shallow", "course"):
        tables[name] = tables[name][tables[name].phase == "after"]
    config = groups(p, min(p.widths), 1)[0]
    known = experiment.task(config)
    before = theory.after_training(
        network(config, known), known.data.x_train, known.y, known.paths, config.initialisation,
        time=known.rate * 1e-9, points=config.points,
    )  # fmt: skip
    trained = {"before": before, "after": known.predicted}
    moments = [
        {"steps": steps}
        | _measures(experiment.task(groups(p, p.moment_width, 1, steps=steps)[0]).predicted)
        for steps in p.moments
    ]
    expected = {phase: _measures(of) for phase, of in trained.items()}
    return Found(
        p, **tables, known=known, theory=trained, expected=expected, moments=pd.DataFrame(moments)
    )


def _measures(trained: Trained) -> dict[str, float]:
    """The measures of the table by theory, pooled as there."""
    middle = len(trained.t) // 2
    return {
        "mid_path_deflection": float(trained.mid_path_deflection.square().mean().sqrt()),
        "chord_deviation": float(trained.chord_deviation[:, middle].square().mean().sqrt()),
        "fluctuation": float(trained.fluctuation(400).mean()),
    }
