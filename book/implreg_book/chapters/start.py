"""Chapter "Scale: which random start?"."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from scipy import stats

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.chapters import compared, protocols
from implreg_book.chapters.compared import Compared
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.experiments import conditions
from implreg_book.experiments.ablations import REFERENCE
from implreg_book.experiments.variants import equal_width, parameters
from implreg_book.parameters.start import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grids, tables_of

_ERRORS = {"test_error": "test error", "straightness": "fluctuation / edge margin"}


@dataclass(frozen=True)
class Found(Compared):
    """What the runs have found, see `Compared`."""

    p: Parameters
    quantities: ClassVar = {
        "deflection": "deflection",
        "normalized_deflection": "normalised deflection",
        "straightness": "fluctuation / edge margin",
        "test_error": "test error",
    }

    def steps(self, kind: str, factors: Sequence[float]) -> tuple[str, str]:
        """How the deflection changes from factor to factor, the reference's 1 among them."""
        names = {factor: f"{kind} {factor:g}" for factor in factors} | {1.0: REFERENCE}
        return self.course("deflection", [names[factor] for factor in sorted(names)])

    def shape(self) -> str:
        """Whether other distributions change the deflection: "same", "apart" or "open"."""
        kinds = {compared.changed(self.ratios["deflection"][n]) for n in self.p.distributions}
        return "same" if kinds == {"same"} else "apart" if kinds & {"rises", "falls"} else "open"


def grids(p: Parameters) -> Grids:
    """Networks from the usual start and from each other one."""
    starts = conditions.starts(
        compared.reference_of(p),
        scales=p.scales,
        distributions=p.distributions,
        biases=p.biases,
        output_scales=p.output_scales,
    )
    return {"networks": compared.networks(p, starts)}


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return protocols.of_ablation(grids(p)["networks"].configs)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    columns = (*Found.quantities, "train_error", "train_loss", "relative_distance")
    return Found(p, compared.completed(tables_of(grids(p))["networks"], columns))


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, bends, usual = found.p, found.ratios["deflection"], compared.reference_of(found.p)
    data = usual.data()
    count = parameters(usual.network, data.shape, data.classes)
    scale, scale_steps = found.steps("scale", p.scales)
    output, output_steps = found.steps("output scale", p.output_scales)
    reached, small, lazy = found.reached, min(p.scales) < 1, max(p.output_scales) > 1
    return {
        **found.told(),
        "training": compared.training(p),
        **_conclusions(found.untested(), scale, found.shape()),
        "verdict": str(verdicts(found)["C7"].outcome),
        "extremes": " ".join(_extreme(found, s) for s in _ends(p.scales)),
        "shapes": ", ".join(f"{name} {rules.in_words(bends[name])}" for name in p.distributions),
        "scale": {
            "rises": "Smaller is straighter" if small else "Larger is more bent",
            "falls": "Smaller is more bent" if small else "Larger is straighter",
            "both": "Neither smaller nor larger is always straighter",
            "same": "The scale does not matter",
            "open": "Whether smaller is straighter stays open",
        }[scale],
        "scale-steps": scale_steps,
        "scale-ends": " ".join(_scaled(found, s) for s in _ends(p.scales)),
        "output": {
            "rises": f"The {'kernel' if lazy else 'usual'} regime is more bent",
            "falls": f"The {'kernel' if lazy else 'usual'} regime is straighter",
            "both": "Neither regime is always more bent",
            "same": "No regime is more bent",
            "open": "Which regime is more bent stays open",
        }[output],
        "output-steps": output_steps,
        "output-ends": " ".join(_multiplied(found, s) for s in _ends(p.output_scales)),
        "usual": "Which scale makes paths straightest is not tested."
        if found.untested()
        else "The usual scale is not the one that makes paths straightest."
        if any(compared.changed(bends[f"scale {s:g}"]) == "falls" for s in p.scales)
        else "No other scale here makes paths clearly straighter than the usual one.",
        "errors": _errors(found),
        "correlation": compared.correlated(
            compared.correlation(reached, "deflection", "test_error")
        ),
        "straightness-correlation": compared.correlated(
            compared.correlation(reached, "straightness", "test_error")
        ),
        "losses": _losses(found),
        "test-samples": f"{len(data.y_test):,}",
        "deep": equal_width(3, count, data.shape, data.classes),
    }


def _conclusions(untested: str, scale: str, shape: str) -> dict[str, object]:
    """What the scale and the shape of the start do, in the opening and at the end."""
    also = {
        "same": "makes no difference",
        "apart": "makes a difference",
        "open": "may make one or not",
    }
    kind = scale if scale in also else "apart"
    answer = f"The scale of the start {also[kind]}, the shape of its distribution {also[shape]}."
    means = f"Of what about it matters these runs say: {answer[0].lower()}{answer[1:]}"
    if (kind, shape) == ("apart", "same"):
        answer = "Not the shape of its distribution but its scale decides."
        means = (
            "These runs say what about it matters: its scale, not the shape of its distribution."
        )
    if untested:
        answer = f"Not tested: {untested}."
    if untested or kind == "open":
        means = "These runs do not say what about it matters."
    matter = {
        "same": "The shape of the distribution does not matter",
        "apart": "The shape of the distribution matters",
        "open": "Whether the shape of the distribution matters stays open",
    }
    return {"answer": answer, "means": means, "shape": matter[shape]}


def _ends(factors: Sequence[float]) -> list[float]:
    """The least and the largest of some factors, or the only one."""
    return sorted({min(factors), max(factors)})


def _extreme(found: Found, scale: float) -> str:
    """The sentence of the opening on a scale."""
    bend, error = (found.ratios[of][f"scale {scale:g}"] for of in ("deflection", "test error"))
    path = words.by_ratio(
        bend,
        larger="more bent than",
        smaller="straighter than",
        same=f"as bent, {rules.WITHIN}, as",
        unclear="neither clearly straighter nor clearly more bent than",
    )
    weights = f"From hidden weights {scale:g} times the usual ones"
    if not bend.n:
        return f"{weights} {compared.ALONE}."
    return (
        f"{weights} the path ends {path} from the usual start: its deflection is {bend:.2f} times "
        f"as large, its test error {compared.times(error)}."
    )


def _scaled(found: Found, scale: float) -> str:
    bend, relative = (
        found.ratios[of][f"scale {scale:g}"] for of in ("deflection", "normalised deflection")
    )
    if not bend.n:
        return f"At {scale:g} times the usual scale {compared.ALONE}."
    return (
        f"At {scale:g} times the usual scale the deflection is {bend:.2f} times as large, "
        f"normalised {compared.times(relative)}."
    )


def _multiplied(found: Found, factor: float) -> str:
    name = f"output scale {factor:g}"
    bend = found.ratios["deflection"][name]
    moved = 100 * found.reached.groupby("condition").relative_distance.mean()
    regime = "kernel" if factor > 1 else "adaptive"
    outputs = f"With the outputs multiplied by {factor:g}, towards the {regime} regime,"
    if not bend.n:
        return f"{outputs} {compared.ALONE}."
    return (
        f"{outputs} the weights move by {moved[name]:.0f} % of their norm (usual start: "
        f"{moved[REFERENCE]:.0f} %), and the deflection is {bend:.2f} times the usual one."
    )


def _errors(found: Found) -> str:
    """Which start is straightest, and which has the smallest error."""
    means = found.reached.groupby("condition", sort=False)[["deflection", "test_error"]].mean()
    if REFERENCE not in means.index:
        return "No network from the usual start reached the loss."
    error = (100 * means.test_error).map("{:.1f} %".format)
    straightest, best = str(means.deflection.idxmin()), str(means.test_error.idxmin())
    return (
        f"The mean deflection is smallest for “{straightest}”, with a mean test error of "
        f"{error[straightest]}; that of the usual start (“{REFERENCE}”) is {error[REFERENCE]}, and "
        f"the smallest is that of “{best}”, {error[best]}."
    )


def _losses(found: Found) -> str:
    """Whether the starts come nearer to the usual one from the first loss to the last."""
    losses, last = found.p.target_losses, found.ratios["deflection"]
    if len(losses) == 1:
        return "With a single training loss there is nothing to compare."
    first = found.ratios_at(losses[0])["deflection"]
    both = [name for name in first if first[name].n and last[name].n]
    apart = [name for name in both if compared.changed(first[name]) in ("rises", "falls")]
    nearer = sum(
        abs(math.log(last[name].value)) < abs(math.log(first[name].value)) for name in apart
    )
    if not apart:
        return f"At a loss of {losses[0]:g} no start differs clearly from the usual one."
    text = (
        f"At a loss of {losses[0]:g} the deflections of {len(apart)} of {len(both)} starts differ "
        f"clearly from that of the usual one; of these, {nearer} are nearer to it at "
        f"{losses[-1]:g}."
    )
    if len(both) > 2:
        order = stats.spearmanr([(first[name].value, last[name].value) for name in both])
        text += f" Their order at the two losses has a rank correlation of {order.statistic:.2f}."
    return text


def ratio_figure(found: Found) -> Figure:
    """All ratios to the usual start."""
    return figures.plot_ratios(found.ratios, reference="usual start")


def error_figure(found: Found) -> Figure:
    """Test error and fluctuation over margin of each network."""
    return compared.compare_figure(found.reached, _ERRORS)


def arrivals(found: Found) -> pd.DataFrame:
    """How many runs arrived, and how far their weights moved."""
    means = {
        "epochs": ("epochs", "{:.0f}"),
        "train_loss": ("loss", "{:.4f}"),
        "relative_distance": ("moved", "{:.2f}"),
    }
    return found.arrivals(means).rename_axis(columns="start")


def ratio_table(found: Found) -> pd.DataFrame:
    """The ratios of the figure, in words."""
    return found.in_words()


def loss_table(found: Found) -> pd.DataFrame:
    """The ratio of the deflection at each loss."""
    head = "deflection over that of the usual start, at a training loss of"
    return found.by_loss("deflection").rename_axis(columns=head)


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    p = found.p
    scope = f"{compared.scope_of(p)}, {compared.method(p)} to training loss {p.target_losses[-1]:g}"
    if why := found.untested():
        return {"C7": claims.not_tested("C7", why, scope=scope)}
    plain = found.ratios_at(p.target_losses[-1], plain=True)
    names = [name for name in plain if name != _ERRORS["straightness"]]
    return {"C7": claims.other_starts({name: plain[name] for name in names}, scope=scope)}


FIGURES = {"ratios": ratio_figure, "error": error_figure}
TABLES = {"arrivals": arrivals, "ratios": ratio_table, "losses": loss_table}
