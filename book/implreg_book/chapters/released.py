"""Chapter "What the released program measures": its estimator beside the exact measures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from implreg.figures import Figure
from implreg.training import SGD
from implreg_book import figures
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.evidence import rules, words
from implreg_book.evidence.claims import Outcome, Verdict
from implreg_book.evidence.statistics import NONE, Estimate, ratio
from implreg_book.experiments import released as experiment
from implreg_book.experiments import sgd
from implreg_book.experiments.families import Network
from implreg_book.parameters.released import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.runs.grids import Grid, Grids, tables_of

USUAL = 1000  # samples of the released program
BEFORE, AFTER = ("before", "raw"), ("after", "normalized")
_KEYS = ["family", "size", "seed", "phase", "variant"]
_MEASURES = ["gap_deviation", "bridge_deviation"]
_FINE = ["gap_deviation_over_exact", "bridge_deviation_over_exact", "merged_share"]
# Of each trait: the estimator that has it, and what to compare that with.
_TRAITS = {
    "merging": ("merging alone", "exact"),
    "index": ("merging and index", "merged"),
    "biases": ("merging and biases", "merged"),
}


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        sampled: one row for each network, phase, variant, estimator and number of points, with both
            estimates over the exact ones and over those of merging alone.
        networks: how many were trained.
        diverged: how many of them diverged.
    """

    p: Parameters
    sampled: pd.DataFrame
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
        return _mean(rows[(rows.family == family) & (rows["size"] == size)][of])

    def trait(
        self, trait: str, measure: str, size: int, case: tuple[str, str], family: str = "mlp"
    ) -> Estimate:
        """The factor by which a trait alone changes an estimate."""
        estimator, to = _TRAITS[trait]
        return self.effect(estimator, f"{measure}_over_{to}", size, case, family)

    def by_trait(self, case: tuple[str, str]) -> pd.DataFrame:
        """What each trait alone does to the two estimates, one row per perceptron."""
        parts = []
        for trait, (estimator, to) in _TRAITS.items():
            rows = self.at_usual(estimator, case)
            rows = rows[rows.family == "mlp"]
            both = {name: rows[f"{name}_over_{to}"] for name in _MEASURES}
            parts.append(rows[["size", "seed"]].assign(trait=trait, **both))
        return pd.concat(parts).dropna()

    @property
    def fine(self) -> pd.DataFrame:
        """Perceptrons of the width `resolved`, with merging alone, at all numbers of samples."""
        rows = self.sampled[
            (self.sampled.family == "mlp")
            & (self.sampled["size"] == resolved(self.p))
            & (self.sampled.estimator == "merging alone")
            & (self.sampled.variant == "raw")
        ]
        rows = rows.assign(merged_share=1 - rows.intervals / rows.switches)
        return rows.dropna(subset=_FINE)

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


def _mean(ratios: pd.Series) -> Estimate:
    usable = ratios[np.isfinite(ratios) & (ratios > 0)]
    return ratio(usable, [1.0] * len(usable)) if len(usable) else NONE


def resolved(p: Parameters) -> int:
    """The width that is sampled more and less finely: the second."""
    return sorted(p.widths)[1]


def grids(p: Parameters) -> Grids:
    """Every network before and after training, the largest first."""
    perceptrons = [Network("mlp", n) for n in sorted(p.widths, reverse=True)]
    networks = [
        Network("resnet", p.depth, p.resnet_factor),
        Network("vgg", p.convolutions, p.vgg_factor, 0.5),
        *perceptrons,
    ]
    configs = [
        _config(p, network, seed)
        for network in networks
        for seed in range(p.seeds if network in perceptrons else p.conv_seeds)
    ]
    return {"networks": Grid(experiment.run, configs, "networks")}


def _config(p: Parameters, network: Network, seed: int) -> experiment.Config:
    convolutional = network.family != "mlp"
    last = p.conv_epochs if convolutional else p.epochs
    training = sgd.Config(
        p.dataset,
        p.conv_train if convolutional else p.train,
        network,
        (seed,),
        SGD(p.learning_rate, epochs=last, warmup_epochs=p.warmup_epochs),
        (0, last),
        p.conv_pairs if convolutional else p.pairs,
        side=p.side if convolutional else 0,
    )
    fine = network == Network("mlp", resolved(p))
    return experiment.Config(training, tuple(sorted({USUAL, *p.points})) if fine else (USUAL,))


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    runs = grids(p)
    table = tables_of(runs)["networks"]
    lost = table[table.diverged].groupby(["family", "size", "seed"]).ngroups
    whole = table[~table.diverged]
    whole = whole.assign(phase=np.where(whole.epoch == 0, "before", "after"))
    exact = whole[whole.estimator == experiment.EXACT].set_index(_KEYS)[_MEASURES]
    sampled = whole[whole.estimator != experiment.EXACT].join(exact.add_suffix("_exact"), on=_KEYS)
    at = [*_KEYS, "points"]
    merged = sampled[sampled.estimator == "merging alone"].set_index(at)[_MEASURES]
    sampled = sampled.join(merged.add_suffix("_merged"), on=at)
    for name in _MEASURES:
        for to in ("exact", "merged"):
            sampled[f"{name}_over_{to}"] = sampled[name] / sampled[f"{name}_{to}"]
    return Found(p, sampled, len(runs["networks"].configs), lost)


# ---------------------------------------------------------------- words


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, widest, program = found.p, max(found.p.widths), "released program"
    off = {n: found.effect(program, "bridge_deviation_over_exact", n, AFTER) for n in p.widths}
    most = max(p.widths, key=lambda n: abs(np.log(off[n].value)) if off[n].n else -1.0)
    left = {
        name: found.trait("merging", f"{name}_deviation", resolved(p), ("after", "raw"))
        for name in ("gap", "bridge")
    }
    share = found.fine.pivot_table(index="seed", columns="points", values="merged_share")
    ends = share.iloc[:, [0, -1]].dropna() if len(share.columns) > 1 else share.iloc[:0]
    return {
        "networks": found.networks,
        "diverged": found.diverged,
        "epochs": words.some(p.epochs, "epoch"),
        "seeds": p.seeds,
        "conv-seeds": p.conv_seeds,
        "within": rules.WITHIN,
        "widest": f"{widest:,}",
        "resolved": f"{resolved(p):,}",
        "most": f"{most:,}",
        "gap": _told(found.effect(program, "gap_deviation_over_exact", widest, AFTER)),
        "bridge": _told(off[widest]),
        "bridge-most": _told(off[most]),
        **{trait: _told(found.trait(trait, "bridge_deviation", most, AFTER)) for trait in _TRAITS},
        "course": "falls" if len(ends) and (ends.iloc[:, 1] < ends.iloc[:, 0]).all() else "changes",
        "rate": _rates(found.rates),
        "left": " and ".join(f"{_told(x)} ({name})" for name, x in left.items()),
        **_traits(found),
    }


def _told(x: Estimate) -> str:
    return f"{x:.3f}" if x.n else "(not tested)"


def _rates(rates: dict[str, float]) -> str:
    told = [f"{phase} training {rate:.2f}".replace("-", "−") for phase, rate in rates.items()]
    return ", ".join(told) or "not to be had, as no switches share an interval there"


def _traits(found: Found) -> dict[str, object]:
    """Which traits change which estimate."""
    widths = sorted(found.p.widths)

    def of(measure: str) -> dict[str, dict[int, Estimate]]:
        return {t: {n: found.trait(t, measure, n, AFTER) for n in widths} for t in _TRAITS}

    gaps = [x for by in of("gap_deviation").values() for x in by.values() if x.n]
    beyond = {
        trait: [f"{n:,}" for n, x in by.items() if rules.equal(x) is Outcome.NOT_SUPPORTED]
        for trait, by in of("bridge_deviation").items()
    }
    moved = [f"the {trait} at {listed(at)} units" for trait, at in beyond.items() if at]
    before = [found.trait("index", "bridge_deviation", n, BEFORE) for n in widths]
    rows = found.by_trait(AFTER)
    single = (rows[rows.trait == "index"].bridge_deviation - 1).abs()
    resnet = [found.trait("biases", name, found.p.depth, AFTER, "resnet") for name in _MEASURES]
    return {
        "gaps": f"{sum(map(rules.same, gaps))} of {len(gaps)}",
        "moved": listed(moved) or "no trait at any width",
        "single": f"{100 * single.median():.0f} %" if len(single) else "(not tested)",
        "index-before": words.how_many(sum(map(rules.same, before)), len(before), "widths"),
        "batch-norm": " and ".join(map(_told, resnet)),
    }


# ---------------------------------------------------------------- figures


def merging_figure(found: Found) -> Figure:
    """Merging against the number of samples."""
    if found.fine.empty:
        return nothing_to_draw("all perceptrons diverged")
    return figures.plot_against(
        found.fine,
        "points",
        _FINE,
        by="phase",
        log="x",
        xlabel="samples T",
        ylabel=[
            r"sampled over exact $\sigma_\mathrm{gap}$",
            r"sampled over exact $\sigma_\mathrm{bridge}$",
            "share of switches that merge",
        ],
    )


def _traits_figure(case: tuple[str, str]) -> Callable[[Found], Figure]:
    def draw(found: Found) -> Figure:
        """Each trait's factor on both estimates against width."""
        rows = found.by_trait(case)
        if rows.empty:
            return nothing_to_draw("all perceptrons diverged")
        return figures.plot_against(
            rows,
            "size",
            _MEASURES,
            by="trait",
            log="x",
            xlabel="width n",
            ylabel=[r"factor on $\sigma_\mathrm{gap}$", r"factor on $\sigma_\mathrm{bridge}$"],
        )

    return draw


after_figure, before_figure = _traits_figure(AFTER), _traits_figure(BEFORE)


# ---------------------------------------------------------------- tables


def traits_table(found: Found) -> pd.DataFrame:
    """Each trait's factor for one network of each family, before and after training."""
    p = found.p
    cases = {
        f"perceptron, width {max(p.widths):,}": (max(p.widths), "mlp"),
        f"VGG-like, {p.convolutions} convolutions": (p.convolutions, "vgg"),
        f"ResNet, depth {p.depth}": (p.depth, "resnet"),
    }
    columns = [(trait, name) for trait in _TRAITS for name in ("gap", "bridge")]
    rows = {
        f"{name}, {case[0]} training": {
            (trait, of): f"{found.trait(trait, f'{of}_deviation', size, case, family):.2f}"
            for trait, of in columns
            if (trait, of) != ("index", "gap")  # no gap is looked up by an index
        }
        for name, (size, family) in cases.items()
        for case in (BEFORE, AFTER)
    }
    return pd.DataFrame(rows).T


def figures_table(found: Found) -> pd.DataFrame:
    """Whether the estimator would change a figure of the paper."""
    p, widths = found.p, sorted(found.p.widths)
    cases = {
        **{f"2, width {n:,}": (n, BEFORE, "mlp") for n in widths},
        **{f"3, width {n:,}": (n, AFTER, "mlp") for n in widths},
        "4 a–c": (p.convolutions, BEFORE, "vgg"),
        "4 d–f": (p.convolutions, AFTER, "vgg"),
        "5 a–c": (p.depth, BEFORE, "resnet"),
        "5 d–f": (p.depth, AFTER, "resnet"),
    }
    return pd.DataFrame(
        {
            f"figure {figure}": {
                name: _changed(found.effect("released program", f"{column}_over_exact", *case))
                for name, column in zip(
                    ("gap deviation", "bridge estimate"), _MEASURES, strict=True
                )
            }
            for figure, case in cases.items()
        }
    ).T


def _changed(estimate: Estimate) -> str:
    states = {Outcome.SUPPORTED: "unchanged", Outcome.NOT_SUPPORTED: "changed"}
    said = states.get(rules.equal(estimate), "undecided")
    return f"{said}: {estimate:.2f}" if estimate.n else "not tested"


def verdicts(found: Found) -> dict[str, Verdict]:
    """None: no claim of the ledger is about the program."""
    return {}


FIGURES = {"merging": merging_figure, "after": after_figure, "before": before_figure}
TABLES = {"traits": traits_table, "figures": figures_table}
