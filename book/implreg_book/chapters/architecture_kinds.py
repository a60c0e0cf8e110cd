"""Chapter "Architecture": all kinds of networks side by side."""

import math

import pandas as pd

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, MARKERS, MUTED, legend, new_figure, number
from implreg_book import figures
from implreg_book.chapters import architecture_changes as changed
from implreg_book.chapters import architecture_layers as layers
from implreg_book.chapters import same_loss
from implreg_book.chapters.architecture_found import DEFLECTION, ERROR, REFERENCE, Found
from implreg_book.chapters.same_loss import cell
from implreg_book.evidence import rules
from implreg_book.evidence.rules import Outcome, in_words
from implreg_book.evidence.statistics import Estimate
from implreg_book.figures.axes import log_axis

CURVATURE = {
    "gradient deflection": "deflection",
    "mid-path deflection": "mid_path_deflection",
    "total variation": "total_variation",
    "fluctuation / edge margin": "straightness",
}


def arrivals(found: Found) -> pd.DataFrame:
    """How many networks of each kind reached the loss, when, and with which errors."""
    counts = found.last.groupby("condition", sort=False).agg(
        runs=("reached", "size"), reached=("reached", "sum"), diverged=("diverged", "sum")
    )
    sizes = found.start[found.start.seed == 0].set_index("condition")[["parameters", "units"]]
    columns = {
        "epochs": ("epochs", ".0f"),
        "loss": ("train_loss", ".4f"),
        "error, %": ("train_error", ".2f"),
        "test error, %": ("test_error", ".1f"),
    }
    rows = sizes.map("{:,}".format).join(counts).join(same_loss.means(found.reached, columns))
    return rows.astype(object).fillna("").rename_axis(index=None, columns="condition")


def ratio_figure(found: Found) -> Figure:
    """All ratios to the reference."""
    return figures.plot_ratios(found.families[REFERENCE])


def ratio_table(found: Found) -> pd.DataFrame:
    """The same, and what their intervals say."""
    return pd.DataFrame(
        {
            name: {c: cell(x) for c, x in of.items()}
            for name, of in found.families[REFERENCE].items()
        }
    )


def loss_table(found: Found) -> pd.DataFrame:
    """Ratios to the reference at each loss."""
    at = {loss: found.at(loss) for loss in found.p.target_losses}
    rows = {
        (name, f"{loss:g}"): {
            c: f"{x.value:.2f} {in_words(x)}" if x.n else "no run" for c, x in of[name].items()
        }
        for name in (DEFLECTION, ERROR)
        for loss, of in at.items()
    }
    return pd.DataFrame(rows).rename_axis(
        columns=["ratio to the reference", "at a training loss of"]
    )


def convolution_table(found: Found) -> pd.DataFrame:
    """The convolutional network compared with two perceptrons."""
    bases = {
        "the reference": found.families[REFERENCE],
        f"the perceptron of {found.units} units": found.families[found.names.keys["narrow"]],
    }
    rows = {
        base: {of: cell(x["convolutions"]) for of, x in ratios.items()}
        for base, ratios in bases.items()
    }
    return pd.DataFrame(rows).T.rename_axis(columns="convolutions, ratio to")


def factors(found: Found) -> pd.Series:
    """By what training multiplies the deflection of each kind, NaN if that is not known."""
    after, before = found.means("deflection"), found.means("deflection", before=True)
    return after / before.where(before > 0)


def growth_table(found: Found) -> pd.DataFrame:
    """The same, as a table."""
    shown = factors(found).map(lambda x: "no run" if math.isnan(x) else f"{x:.2f}")
    return pd.DataFrame({"after / before": shown}).T.rename_axis(columns="condition")


def growth_figure(found: Found) -> Figure:
    """Deflections after training against those before."""
    return _scatter(
        found,
        ("deflection_before", "deflection before training"),
        ("deflection", "deflection after training"),
        line=factors(found)[REFERENCE],
    )


def error_figure(found: Found) -> Figure:
    """Test errors against deflections after training."""
    return _scatter(
        found, ("deflection", "deflection after training"), ("test_error", "test error, %")
    )


def _scatter(
    found: Found, x: tuple[str, str], y: tuple[str, str], line: float | None = None
) -> Figure:
    """Networks as faint marks, the means of their kinds in front of them; with a line both log."""
    names, (ax, xlabel), (ay, ylabel) = found.names, x, y
    keys = names.keys
    groups = {
        "plain perceptrons by depth": [REFERENCE, *names.deeper],
        "leak": list(names.leaky),
        "skip connections": [keys["skip"], keys["small"]],
        "batch norm": [keys["norm"], keys["deep_norm"]],
        "convolutions": [keys["conv"]],
        f"{found.units} units": [keys["narrow"]],
    }
    notes = {
        keys["skip"]: "usual start",
        keys["small"]: "small start",
        keys["norm"]: "1 layer",
        keys["deep_norm"]: f"{found.p.deep} layers",
        keys["deepest"]: f"{max(found.p.depths)} layers",
        keys["leak"]: f"α = {max(found.p.leaks):g}",
    }
    points = found.reached.assign(test_error=100 * found.reached.test_error)
    points = points[(points[ax] > 0) & ((points[ay] > 0) | (line is None))]
    told, handles = [], []
    with style():
        fig = new_figure(3.9)
        panel = fig.add_subplot()
        for (group, own), colour, marker in zip(groups.items(), CATEGORIES, MARKERS, strict=True):
            rows = points[points.condition.isin(own)]
            means = rows.groupby("condition", sort=False)[[ax, ay]].mean()
            panel.plot(rows[ax], rows[ay], marker, color=colour, alpha=0.3, markersize=4)
            handles += panel.plot(
                means[ax], means[ay], marker, color=colour, markersize=9, label=group
            )
            for name, a, b in means.itertuples():
                told.append(f"{name} {number(a)}, {number(b)}")
                panel.annotate(
                    notes.get(name, ""), (a, b), (8, -10), textcoords="offset points", fontsize=10
                )
        panel.set_xlabel(xlabel)
        panel.set_ylabel(ylabel)
        for axis in ("x" if line is None else "xy") if len(points) else "":
            log_axis(panel, axis)
        if line is not None and len(points):
            ends = points[ax].min(), points[ax].max()
            panel.plot(ends, [line * end for end in ends], "--", color=MUTED, zorder=1)
        legend(fig, handles)
    alt = (
        f"Scatter plot of {len(points)} networks of {len(names.order) + 1} kinds, {ylabel} against "
        f"{xlabel}. Means: {'; '.join(told)}."
    )
    return show(fig, alt=alt if len(points) else "An empty plot: no network reached the loss.")


# Is straighter better?


def correlations(found: Found) -> dict[str, Estimate]:
    """By measure, its rank correlation with the test error at all losses, given the loss."""
    there = found.table[found.table.reached]
    return {
        name: same_loss.correlated(there[there[x] > 0], x, "test_error", given="train_loss")
        for name, x in CURVATURE.items()
    }


def correlation_table(found: Found) -> pd.DataFrame:
    """The same, as a table."""
    shown = {name: f"{x:.2f}" if x.n else "none" for name, x in correlations(found).items()}
    return pd.DataFrame({"given the training loss": shown}).T.rename_axis(
        columns="rank correlation with the test error"
    )


def at_target(found: Found) -> Estimate:
    """The rank correlation of deflection and test error at the loss of the test."""
    return same_loss.correlated(found.reached, "deflection", "test_error")


def against(found: Found) -> list[str]:
    """Comparisons in which the network that bends more makes fewer errors."""
    return [
        f"{name} over {base} (deflection {x:.2f}, test error {ratios[ERROR][name]:.2f})"
        for base, ratios in found.families.items()
        for name, x in ratios[DEFLECTION].items()
        if {in_words(x), in_words(ratios[ERROR][name])} == {"larger", "smaller"}
    ]


def outcomes(found: Found) -> dict[str, Outcome]:
    """What the tests say of the hypotheses."""
    rising, opposed = at_target(found), bool(against(found))
    better = rules.decide(rules.larger(rising, 0) and not opposed, opposed)
    return {
        "1  depth acts as before training": changed.depth_outcome(found),
        "2  a leak acts as before training": changed.leak_outcome(found),
        "3a skip connections straighten": layers.skip_outcome(found),
        "3b batch norm straightens": layers.norm_outcome(found),
        "4  the bend of skip connections is the size of their start": layers.small_outcome(found),
        "5  straighter is better": better
        if found.trained and (rising.n or opposed)
        else Outcome.NOT_TESTED,
    }


def outcome_table(found: Found) -> pd.DataFrame:
    """The same, as a table."""
    return pd.DataFrame({"outcome": {name: str(x) for name, x in outcomes(found).items()}})
