"""Chapter "Optimiser: is it SGD that keeps it straight?"."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib import pyplot as plt

import implreg as ir
from implreg.figures.display import CATEGORIES, MUTED, Figure, number
from implreg_book import figures
from implreg_book.chapters import compared, protocols, squared_loss
from implreg_book.chapters.compared import Compared
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.chapters.squared_loss import Squared
from implreg_book.evidence import claims, rules
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.hypotheses import Expectation
from implreg_book.evidence.rules import SAME, Outcome
from implreg_book.evidence.statistics import Estimate, mean_interval, quantile
from implreg_book.experiments import ablations, conditions
from implreg_book.experiments.ablations import REFERENCE
from implreg_book.figures.axes import log_axis
from implreg_book.parameters.optimiser import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grids, tables_of

_BEND = "gradient deflection"
_WEAK = 0.3  # a rank correlation below it contradicts hypothesis (3)


@dataclass(frozen=True)
class Found(Compared):
    """What the runs have found, see `Compared`.

    Attributes:
        squared: the networks with the squared loss.
        doubt: both sides of the theorem on sharpness and doubt, for the first network.
    """

    p: Parameters
    squared: Squared
    doubt: tuple[float, float]
    quantities: ClassVar = {
        "deflection": _BEND,
        "straightness": "fluctuation / edge margin",
        "test_error": "test error",
        "sharpness": "sharpness",
    }

    def arrived(self, quantity: str = _BEND) -> dict[str, Estimate]:
        """Ratios of the other ways that arrived."""
        return {name: x for name, x in self.ratios[quantity].items() if x.n}

    @property
    def descent(self) -> str:
        """Gradient descent with the step of the reference."""
        return f"descent, step {self.p.learning_rate:g}"

    @property
    def smallest(self) -> str:
        """SGD with the smallest batch."""
        return f"batch {min(self.p.batches)}"

    def flat(self) -> Estimate:
        """Rank correlation of sharpness and deflection."""
        return compared.correlation(self.reached, "sharpness", "deflection")

    def hypotheses(self) -> tuple[Outcome, Outcome, Outcome]:
        """What the tests say of hypotheses (1), (2) and (3)."""
        bends, flat, gaps = self.ratios[_BEND], self.flat(), self.squared.gaps()
        descent, small = bends[self.descent], bends[self.smallest]
        noise = rules.decide(
            rules.larger(descent, SAME) and rules.smaller(small, 1 / SAME),
            (rules.same(descent) or rules.smaller(descent)) and rules.larger(small, 1 / SAME),
        )
        step = Expectation("sum of gaps", gaps, high=1, ratio=True).outcome()
        flatness = rules.decide(rules.larger(flat, 0), rules.smaller(flat, _WEAK))
        untested = Outcome.NOT_TESTED
        return (
            untested if self.untested() or not (descent.n and small.n) else noise,
            step if self.squared.beyond() else untested,
            untested if self.untested() or not flat.n else flatness,
        )


def grids(p: Parameters) -> Grids:
    """Networks trained in each way, and those with the squared loss."""
    ways = conditions.optimisers(
        compared.reference_of(p),
        steps=p.steps,
        batches=p.batches,
        descent_steps=tuple(dict.fromkeys((p.learning_rate, *p.descent_steps))),
        momenta=[p.momentum],
        adam_steps=p.adam_steps,
        label_noises=[p.label_noise],
    )
    return {"networks": compared.networks(p, ways), "squared": squared_loss.grid(p)}


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return protocols.of_ablation(grids(p)["networks"].configs)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    columns = (*Found.quantities, "train_error", "train_loss")
    table = compared.completed(tables["networks"], columns)
    return Found(p, table, Squared(p, tables["squared"]), doubt_of(compared.reference_of(p)))


def doubt_of(config: ablations.Config) -> tuple[float, float]:
    """Both sides of the theorem after training: sharpness of the output layer, and its bound.

    NaN if training diverged, or left no doubt or no activation.
    """
    data = config.data()
    *_, moment = ablations.moments(config, data)
    net: Any = moment.net
    head = torch.nn.Linear(net[-1].in_features + 1, data.classes, bias=False).double()
    with torch.no_grad():
        a = net[:-1](data.x_train.float()).double()
        a = torch.cat([a, torch.ones(len(a), 1)], dim=1)
        p = net(data.x_train.float()).double().softmax(dim=1)
        head.weight.copy_(torch.cat([net[-1].weight, net[-1].bias[:, None]], dim=1))
    bound = float(((2 * p * (1 - p)).amax(dim=1) * a.square().sum(dim=1)).mean())
    if moment.diverged or not 0 < bound < math.inf:
        return math.nan, math.nan
    return ir.complexity.sharpness(head, a, data.y_train), bound


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, bends, (h1, h2, h3) = found.p, found.ratios[_BEND], found.hypotheses()
    arrived, errors, sharp = map(found.arrived, (_BEND, "test error", "sharpness"))
    why = found.untested() or "of gradient descent or of the smallest batch no run arrived"
    answers = {
        Outcome.SUPPORTED: ("Yes.", "these networks agree"),
        Outcome.NOT_SUPPORTED: ("Hardly.", "these networks give no sign of it"),
        Outcome.UNDECIDED: ("These networks do not decide.", "these networks do not decide"),
        Outcome.NOT_TESTED: (f"Not tested: {why}.", "that is not tested here"),
    }
    straight = _straightness(found)
    straight.pop(REFERENCE, None)
    return {
        **found.told(),
        **squared_loss.told(found.squared),
        "answer": answers[h1][0],
        "story": answers[h1][1],
        "batch": p.batch,
        "step": f"{p.learning_rate:g}",
        "momentum": f"{p.momentum:g}",
        "noise": f"{100 * p.label_noise:g}",
        "factor": f"{SAME:g}",
        "weak": f"{_WEAK:g}",
        "descent": compared.times(bends[found.descent]),
        "descent-words": rules.in_words(bends[found.descent]),
        "descent-epochs": _epochs(found),
        "smallest": min(p.batches),
        "small-batch": compared.times(bends[found.smallest]),
        "small-batch-words": rules.in_words(bends[found.smallest]),
        "spreads": _spreads(found),
        "arrived": len(arrived),
        "same": sum(map(rules.same, arrived.values())),
        "error-same": sum(map(rules.same, errors.values())),
        "sharp-apart": sum(map(rules.apart, sharp.values())),
        "steps": _steps(found),
        "losses": _losses(found),
        "flat": compared.correlated(found.flat()),
        "h1": str(h1),
        "h2": str(h2),
        "h3": str(h3),
        "doubt": " and ".join(f"{side:.3g}" for side in found.doubt)
        if all(map(math.isfinite, found.doubt))
        else "not known, as it did not learn",
        "verdict": str(verdicts(found)["C6"].outcome),
        "straight": f"{sum(rules.smaller(x) for x in straight.values())} of {len(straight)}",
        **_exercises(found),
    }


def _epochs(found: Found) -> str:
    """How long gradient descent and the reference take."""
    means = found.reached.groupby("condition").epochs.mean()
    if not {found.descent, REFERENCE} <= set(means.index):
        return ""
    return (
        f"Gradient descent with the step of the reference takes {means[found.descent]:,.0f} epochs "
        f"on average to get there, the reference {means[REFERENCE]:,.0f}."
    )


def _straightness(found: Found) -> dict[str, Estimate]:
    """Fluctuation over edge margin by condition, of the runs that have it."""
    there = found.reached.dropna(subset="straightness")
    return {
        str(c): mean_interval(x.straightness) for c, x in there.groupby("condition", sort=False)
    }


def _spreads(found: Found) -> str:
    """By what factors means of the conditions differ, the largest first."""
    means = found.reached.groupby("condition")[["deflection", "test_error", "sharpness"]].mean()
    spread = (means.max() / means[means > 0].min()).sort_values(ascending=False).dropna()
    told = [f"{x:.2f} in the {found.quantities[str(column)]}" for column, x in spread.items()]
    if len(means) < 2:
        return "There are no two ways that arrive."
    return f"Between all ways that arrive, means differ by factors of up to {listed(told)}."


def _steps(found: Found) -> str:
    """The deflection with the smallest and the largest step of SGD that arrives."""
    there = [s for s in sorted(found.p.steps) if f"step {s:g}" in found.arrived()]
    told = [
        f"with a step of {s:g} it is {compared.times(found.arrived()[f'step {s:g}'])}"
        for s in dict.fromkeys([*there[:1], *there[-1:]])
    ]
    return listed(told) or "no other step arrives"


def _losses(found: Found) -> str:
    """The deflection on the way and at the end, where noise is largest."""
    p, end = found.p, found.ratios[_BEND]
    if len(p.target_losses) == 1:
        return "With a single training loss there is nothing to compare."
    at = p.target_losses[min(len(p.target_losses) // 2, len(p.target_losses) - 2)]
    middle = found.ratios_at(at)[_BEND]
    ways = {
        f"batches of {min(p.batches)}": found.smallest,
        "momentum at the full step": f"momentum {p.momentum:g}, step {p.learning_rate:.3g}",
        "label noise": f"label noise {100 * p.label_noise:g} %",
    }
    told = [f"with {way} {middle[c]:.2f} ({end[c]:.2f})" for way, c in ways.items()]
    more = [way for way, c in ways.items() if compared.changed(middle[c]) == "rises"]
    text = (
        f"At a loss of {at:g} the deflection, over that of the reference, is {listed(told)}; the "
        f"same at the last loss in brackets."
    )
    return f"{text} On the way {listed(more)} made paths clearly more bent." if more else text


def _exercises(found: Found) -> dict[str, object]:
    """Numbers of the solutions."""
    p, step = found.p, max(found.p.learning_rate, *found.p.descent_steps)
    own = found.table[(found.table.condition == f"descent, step {step:g}") & found.table.reached]
    edge = own.groupby("target_loss", sort=False).sharpness.mean().dropna()
    plain, wide = (quantile(max(1, p.seeds - 1), tests) for tests in (1, found.tests))
    return {
        "edge-step": f"{step:g}",
        "edge-limit": f"{2 / step:.3g}",
        "edge": listed([f"{x:.2f} at a loss of {loss:g}" for loss, x in edge.items()])
        or "not known, as no such run arrived",
        "widening": f"By the ratio of Student's quantiles with {p.seeds - 1} "
        f"degree{'s' * (p.seeds > 2)} of freedom: {wide:.2f} instead of {plain:.2f}, "
        f"{wide / plain:.1f} times."
        if p.seeds > 1
        else "One seed has no interval at all.",
    }


def ratio_figure(found: Found) -> Figure:
    """All ratios to plain SGD."""
    return figures.plot_ratios(found.ratios)


def flat_figure(found: Found) -> Figure:
    """Sharpness and deflection of all networks, and their means by condition."""
    reached = found.reached.dropna(subset=["sharpness", "deflection"])
    reached = reached[reached.sharpness > 0]
    if reached.empty:
        return nothing_to_draw(compared.NO_NETWORK)
    means = reached.groupby("condition", sort=False)[["sharpness", "deflection"]].mean()
    own = means[means.index == REFERENCE]
    with ir.figures.style():
        fig, panel = plt.subplots(figsize=(6.6, 3.9), layout="constrained")
        looks: list[tuple[pd.DataFrame, dict[str, Any]]] = [
            (reached, {"marker": "o", "color": MUTED, "alpha": 0.35, "markersize": 4}),
            (means, {"marker": "D", "color": CATEGORIES[0], "markersize": 7}),
            (own, {"marker": "s", "color": CATEGORIES[1], "markersize": 9}),
        ]
        for at, look in looks:
            panel.plot(at.sharpness, at.deflection, linestyle="", **look)
        panel.set_ylim(bottom=0)
        panel.set_xlabel("sharpness of the training loss")
        panel.set_ylabel(r"gradient deflection $\delta$")
        log_axis(panel, "x")
    sharp, bend = (f"{number(x.min())} to {number(x.max())}" for _, x in means.items())
    return ir.figures.show(
        fig,
        alt=f"Scatter plot of {len(reached)} networks under {len(means)} conditions at the same "
        f"training loss. Mean sharpness from {sharp} on a logarithmic axis, mean deflection from "
        f"{bend}; rank correlation {compared.correlated(found.flat())}.",
    )


def arrivals(found: Found) -> pd.DataFrame:
    """How many runs arrived, and how well they fit."""
    means = {
        "epochs": ("epochs", "{:.0f}"),
        "train_loss": ("loss", "{:.4f}"),
        "train_error": ("error, %", "{:.2%}"),
    }
    rows = found.arrivals(means)
    rows["error, %"] = rows["error, %"].str.removesuffix("%")
    return rows.rename_axis(columns="condition")


def ratio_table(found: Found) -> pd.DataFrame:
    """The ratios of the figure, in words."""
    return found.in_words()


def loss_table(found: Found) -> pd.DataFrame:
    """The ratio of the deflection at each loss."""
    head = "deflection, ratio to the reference at a training loss of"
    return found.by_loss(_BEND, "at ").rename_axis(columns=head)


def squared_table(found: Found) -> pd.DataFrame:
    """How the networks with the squared loss end, by step."""
    return squared_loss.table(found.squared)


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    scope = f"{compared.scope_of(found.p)}, to training loss {found.p.target_losses[-1]:g}"
    why, straight = found.untested(), _straightness(found)
    usual = found.reached[found.reached.condition == REFERENCE]
    if missing := int(usual.straightness.isna().sum()):
        why = why or f"the edge margin of {missing} of {len(usual)} networks is not positive"
    if why:
        return {"C6": claims.not_tested("C6", why, scope=scope)}
    own = straight.pop(REFERENCE)
    return {"C6": claims.almost_straight(own, others=straight, scope=scope)}


FIGURES = {"ratios": ratio_figure, "flat": flat_figure}
TABLES = {
    "arrivals": arrivals,
    "ratios": ratio_table,
    "losses": loss_table,
    "squared": squared_table,
}
