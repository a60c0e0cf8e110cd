"""Chapter "What the released program measures": what is run, and what was found."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from implreg.training import SGD
from implreg_book.chapters import protocols
from implreg_book.chapters.families import WARMUP_FROM, resnet_like, vgg_like
from implreg_book.evidence.statistics import NONE, Estimate, ratio
from implreg_book.experiments import released as experiment
from implreg_book.experiments import sgd
from implreg_book.experiments.families import Network
from implreg_book.experiments.released import EXACT, PROGRAMS, SAMPLED
from implreg_book.parameters.released import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of

USUAL = 1000  # samples of the released program
BEFORE, AFTER = ("before", "reference"), ("after", "reference")  # as the program normalises
_KEYS = ["family", "size", "seed", "phase", "variant"]
MEASURES = ["gap_deviation", "bridge_deviation", "deflection"]
FINE = ["gap_deviation_over_exact", "bridge_deviation_over_exact", "merged_share"]
# What each trait is compared with: samples without any, or with the trait that it needs.
COMPARED = {
    "merging": SAMPLED,
    "index": SAMPLED,
    "offsets": SAMPLED,
    "drift": SAMPLED,
    "seam": "drift",
    "means": SAMPLED,
    "average switches": SAMPLED,
    "single precision": SAMPLED,
}
# The program's traits: what it computes, what is exact, and what turns it off.
TRAITS = {
    "P1": ("merging", "squared jumps over their switches", "squared gaps"),
    "P2": ("unseen switches", "one per unit and interval at most", "every crossing"),
    "P3": ("index", "the middle looked up too early", "slope after half of the switches"),
    "P4": ("offsets", "the direction sent through with biases and shifts", "without"),
    "P5": ("drift", "jumps of slope over normaliser", "gaps over normaliser"),
    "P6": ("reference", "outputs of another, smallest network", "own network, or none"),
    "P7": ("seam", "one jump of a slope normalised twice (figure 5)", "none"),
    "P8": ("means", "mean of gap deviations", "root mean square"),
    "P9": ("average switches", "deflection from the mean number of switches", "path by path"),
    "P10": ("grid", "1,000 positions for every network", "as many as there are switches"),
    "P11": ("two poolings", "a mean beside a standard deviation", "both root mean squares"),
    "P12": ("batch norm", "statistics of some batches with dropout", "of the population"),
    "P13": ("own class", "fluctuation of one output, normalised", "all outputs, raw"),
    "P14": ("bars", "networks, paths and outputs, or pairs", "independent networks"),
    "P15": ("shared pairs", "one set for all networks", "pairs of their own"),
    "P16": ("max pooling", "the maximum of the direction's own entries", "the entry that wins"),
    "P17": ("single precision", "32 bits", "64 bits"),
}


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        sampled: one row for each network, phase, variant, estimator and number of points, with the
            estimates over the exact ones and over those that each trait is compared with.
        exact: one row for each network, phase and variant.
        networks: how many were trained.
        diverged: how many of them diverged.
    """

    p: Parameters
    sampled: pd.DataFrame
    exact: pd.DataFrame
    networks: int
    diverged: int

    def at_usual(self, estimator: str, case: tuple[str, str]) -> pd.DataFrame:
        """The rows of an estimator with as many samples as the program takes."""
        rows, (phase, variant) = self.sampled, case
        return rows[
            (rows.points == USUAL)
            & (rows.estimator == estimator)
            & (rows.phase == phase)
            & (rows.variant == variant)
        ]

    def effect(
        self, estimator: str, of: str, size: int, case: tuple[str, str], family: str = "mlp"
    ) -> Estimate:
        """A column of ratios, over seeds."""
        rows = self.at_usual(estimator, case)
        return mean(rows[(rows.family == family) & (rows["size"] == size)][of])

    def trait(
        self, trait: str, measure: str, size: int, case: tuple[str, str], family: str = "mlp"
    ) -> Estimate:
        """The factor by which a trait alone changes an estimate."""
        return self.effect(trait, f"{measure}_over_base", size, case, family)

    def walk(self, estimator: str, size: int, case: tuple[str, str], family: str) -> Estimate:
        """The bridge estimate over the gap deviation: 1 for a random walk."""
        rows, (phase, variant) = self.exact, case
        rows = rows[(rows.phase == phase) & (rows.variant == variant)]
        if estimator != EXACT:
            rows = self.at_usual(estimator, case)
        rows = rows[(rows.family == family) & (rows["size"] == size)]
        return mean(rows.bridge_deviation / rows.gap_deviation)

    def by_trait(self, case: tuple[str, str]) -> pd.DataFrame:
        """What each trait alone does to the two estimates, one row per perceptron."""
        parts = []
        for trait in COMPARED:
            rows = self.at_usual(trait, case)
            rows = rows[rows.family == "mlp"]
            every = {name: rows[f"{name}_over_base"] for name in MEASURES}
            parts.append(rows[["size", "seed"]].assign(trait=trait, **every))
        return pd.concat(parts).dropna()

    @property
    def fine(self) -> pd.DataFrame:
        """Perceptrons of the width `resolved`, without any trait, at all numbers of samples."""
        rows = self.sampled[
            (self.sampled.family == "mlp")
            & (self.sampled["size"] == resolved(self.p))
            & (self.sampled.estimator == SAMPLED)
            & (self.sampled.variant == "raw")
        ]
        rows = rows.assign(merged_share=1 - rows.intervals / rows.switches)
        return rows.dropna(subset=FINE)

    @property
    def rates(self) -> dict[str, float]:
        """By phase, the exponent of the share that merges between the two finest resolutions."""
        found = {}
        for phase, rows in self.fine.groupby("phase"):
            mean = rows.groupby("points").merged_share.mean().iloc[-2:]
            if len(mean) == 2 and (mean > 0).all():
                change = np.diff(np.log(mean))[0] / np.diff(np.log(mean.index))[0]
                found[str(phase)] = float(change)
        return found


def mean(ratios: pd.Series) -> Estimate:
    """The geometric mean of those ratios that there are."""
    usable = ratios[np.isfinite(ratios) & (ratios > 0)]
    return ratio(usable, [1.0] * len(usable)) if len(usable) else NONE


def resolved(p: Parameters) -> int:
    """The width that is sampled more and less finely: the second."""
    return sorted(p.widths)[1]


def grids(p: Parameters) -> Grids:
    """Every network before and after training, the largest first."""
    return {"networks": Grid(experiment.run, _configs(p), "networks")}


def _configs(p: Parameters) -> list[experiment.Config]:
    perceptrons = [Network("mlp", n) for n in sorted(p.widths, reverse=True)]
    networks = [
        resnet_like(p.depth, p.resnet_factor),
        vgg_like(p.convolutions, p.vgg_factor),
        *perceptrons,
    ]
    return [
        _config(p, network, seed)
        for network in networks
        for seed in range(p.seeds if network in perceptrons else p.conv_seeds)
    ]


def _config(p: Parameters, network: Network, seed: int) -> experiment.Config:
    convolutional = network.family != "mlp"
    last = p.conv_epochs if convolutional else p.epochs
    smallest = {"mlp": min(p.widths), "vgg": 3, "resnet": 10}[network.family]
    training = sgd.Config(
        p.dataset,
        p.conv_train if convolutional else p.train,
        network,
        (seed,),
        SGD(p.learning_rate, last, SGD.batch, p.warmup_epochs, WARMUP_FROM[network.family]),
        (0, last),
        p.conv_pairs if convolutional else p.pairs,
        side=p.side if convolutional else 0,
    )
    fine = network == Network("mlp", resolved(p))
    points = tuple(sorted({USUAL, *p.points})) if fine else (USUAL,)
    return experiment.Config(training, replace(network, size=smallest), points)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    runs = grids(p)
    table = tables_of(runs)["networks"]
    lost = table[table.diverged].groupby(["family", "size", "seed"]).ngroups
    whole = table[~table.diverged]
    whole = whole.assign(phase=np.where(whole.epoch == 0, "before", "after"))
    exact = whole[whole.estimator == EXACT]
    sampled = whole[whole.estimator != EXACT]
    known = exact.set_index(_KEYS)[MEASURES].add_suffix("_exact")
    sampled = sampled.join(known, on=_KEYS)
    at = [*_KEYS, "points", "base"]
    bases = sampled.rename(columns={"estimator": "base"}).set_index(at)[MEASURES]
    sampled = sampled.assign(base=sampled.estimator.map(COMPARED).fillna(SAMPLED))
    sampled = sampled.join(bases.add_suffix("_base"), on=at)
    for name in MEASURES:
        for to in ("exact", "base"):
            sampled[f"{name}_over_{to}"] = sampled[name] / sampled[f"{name}_{to}"]
    return Found(p, sampled, exact, len(runs["networks"].configs), lost)


def protocol(p: Parameters) -> dict[str, Aspects]:
    """What these runs have of the aspects of a protocol, by the figure that they are nearest to."""
    found = {}
    for family, figure in {"mlp": "3", "vgg": "4 d-f", "resnet": "5 d-f"}.items():
        configs = [c for c in _configs(p) if _network_of(c).family == family]
        one = configs[0].training
        sizes = sorted({_network_of(c) for c in configs}, key=lambda network: network.size)
        found[figure] = {
            **protocols.of_data({one.dataset: one.side}, one.train),
            **protocols.of_networks(sizes, p.seeds if family == "mlp" else p.conv_seeds),
            **protocols.of_pairs(one.pairs, one.kinds),
            **protocols.of_training(one.sgd, one.epochs),
            **protocols.TRACED,
            "positions": (USUAL, "every breakpoint"),
            "gaps": ("merged between positions", "one for each switch"),
            "normaliser": "outputs of the smallest network untrained, own outputs, none",
            "averages": ("mean of h, deviation of β", "root mean squares"),
            "precision": ("single", "double"),
        }
    return found


def _network_of(config: experiment.Config) -> Network:
    return config.training.network


def cases(p: Parameters) -> dict[str, tuple[int, tuple[str, str], str]]:
    """By figure of the paper: size, phase and normaliser, and family of networks."""
    return {
        **{f"2, width {n:,}": (n, BEFORE, "mlp") for n in sorted(p.widths)},
        **{f"3, width {n:,}": (n, AFTER, "mlp") for n in sorted(p.widths)},
        "4 a–c": (p.convolutions, BEFORE, "vgg"),
        "4 d–f": (p.convolutions, AFTER, "vgg"),
        "5 a–c": (p.depth, BEFORE, "resnet"),
        "5 d–f": (p.depth, AFTER, "resnet"),
    }


def program_of(family: str) -> str:
    """Which estimator has all traits that the program has for a family."""
    return "program with seam" if family == "resnet" else PROGRAMS
