"""Chapter "Labels and explicit regularisation": all conditions side by side."""

import pandas as pd
from pandas.io.formats.style import Styler

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, MARKERS, MUTED, legend, new_figure
from implreg_book import figures
from implreg_book.chapters import regularisation_mixup as mixup
from implreg_book.chapters import same_loss
from implreg_book.chapters.regularisation_found import (
    DEFLECTION,
    ERROR,
    EXPLICIT,
    FITTED,
    REFERENCE,
    Found,
)
from implreg_book.evidence import rules
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.figures.axes import log_axis


def arrivals(found: Found) -> pd.DataFrame:
    """How many networks reached the loss of the test and the last one, and when."""
    test, last = found.p.test_loss, found.p.target_losses[-1]
    groups = found.test.groupby("condition", sort=False)
    rows = groups.agg(
        runs=("reached", "size"), reached=("reached", "sum"), diverged=("diverged", "sum")
    ).rename(columns={"reached": f"reached {test:g}"})
    columns = {f"epochs to {test:g}": ("epochs", ".0f"), "loss": ("train_loss", ".4f")}
    rows = rows.join(same_loss.means(found.test[found.test.reached], columns))
    if last != test:
        rows[f"reached {last:g}"] = found.last.groupby("condition").reached.sum()
        columns = {f"epochs to {last:g}": ("epochs", ".0f")}
        rows = rows.join(same_loss.means(found.last[found.last.reached], columns))
    return rows.astype(object).fillna("").rename_axis(index=None, columns="condition")


def unfinished(found: Found) -> pd.DataFrame:
    """Runs that did not reach the last loss, as they were in the end, below the reference."""
    last = found.last
    stuck = last[~last.reached & ~last.diverged]
    rows = pd.concat([last[last.reached & (last.condition == REFERENCE)], stuck])
    if rows.empty:
        return pd.DataFrame({"runs": {"none": 0}})
    groups = rows.groupby("condition", sort=False)
    # There is no ratio to a margin that is not positive.
    rows = rows.assign(
        straightness=rows.straightness.where(groups.edge_margin.transform("min") > 0)
    )
    columns = {
        "loss": ("train_loss", ".3f"),
        "training error, %": ("train_error", ".2f"),
        "test error, %": ("test_error", ".1f"),
        "deflection": ("deflection", ".3f"),
        "fluctuation / edge margin": ("straightness", ".3f"),
    }
    made = groups.agg(runs=("reached", "size")).join(same_loss.means(rows, columns))
    return made.rename_axis(index=None, columns="condition")


def ratio_figure(found: Found) -> Figure:
    """All ratios that are tested."""
    return figures.plot_ratios(found.ratios)


def ratio_table(found: Found) -> pd.DataFrame:
    """The same, and what their intervals say."""
    return pd.DataFrame(
        {
            name: {c: same_loss.cell(x) if x.n else "no ratio" for c, x in of.items()}
            for name, of in found.ratios.items()
        }
    )


def loss_table(found: Found) -> pd.DataFrame:
    """Ratios at each loss."""
    return pd.DataFrame(
        {
            (name, f"at {loss:g}"): {
                c: f"{x.value:.2f}" if x.n else "no run" for c, x in of[name].items()
            }
            for name in (DEFLECTION, ERROR)
            for loss, of in found.by_loss.items()
        }
    )


# Does what helps, help by straightening?


def _relative(rows: pd.DataFrame) -> pd.DataFrame:
    """Deflection and test error over those of the reference of the same seed."""
    usual = rows[rows.condition == REFERENCE].set_index("seed")
    own = rows[rows.condition != REFERENCE].copy()
    for column in ("deflection", "test_error"):
        own[column] /= own.seed.map(usual[column].where(usual[column] > 0))
    own = own.sort_values(["seed", "condition"])  # the order decides what a bootstrap draws
    return own.dropna(subset=["deflection", "test_error"])


def both_times(found: Found) -> dict[str, pd.DataFrame]:
    """The same, at the loss of the test and when training has ended."""
    test, last = found.test, found.last
    return {
        f"at the loss {found.p.test_loss:g}": _relative(test[test.reached]),
        "at the end of training": _relative(last[~last.diverged]),
    }


def correlations(found: Found) -> dict[str, Estimate]:
    """Rank correlations of both at both times, then given the training loss."""
    given = (None, "train_loss")
    return {
        when: same_loss.correlated(
            rows[rows.condition.isin(found.explicit)],
            "deflection",
            "test_error",
            given=loss,
            tests=len(given),
        )
        for (when, rows), loss in zip(both_times(found).items(), given, strict=True)
    }


def error_figure(found: Found) -> Figure:
    """Test errors against deflections, both over the reference, at both times."""
    told = []
    handles = {}
    with style():
        fig = new_figure(3.6)
        panels = fig.subplots(1, 2)
        for panel, letter, (when, rows) in zip(
            panels, "ab", both_times(found).items(), strict=True
        ):
            panel.set_title(f"{letter}  {when}", loc="left")
            panel.axhline(1, color=MUTED, linewidth=1.2)
            panel.axvline(1, color=MUTED, linewidth=1.2)
            rows = rows[rows.deflection > 0]
            for i, kind in enumerate(EXPLICIT):
                own = rows[rows.condition.isin(found.of_kind[kind])]
                look = {"marker": MARKERS[i], "color": CATEGORIES[i], "linestyle": ""}
                panel.plot(own.deflection, own.test_error, **look, alpha=0.25, markersize=3.5)
                mean = own.groupby("condition")[["deflection", "test_error"]].mean()
                (handles[kind],) = panel.plot(
                    mean.deflection, mean.test_error, **look, markersize=8, label=kind
                )
            panel.set_xlabel("gradient deflection, ratio")
            log_axis(panel, "x")
            x = correlations(found)[when]
            told.append(f"{when} the correlation is {same_loss.correlation(x)}")
        panels[0].set_ylabel("test error, ratio")
        legend(fig, list(handles.values()))
    alt = (
        "Scatter plots of test error against gradient deflection, both over the reference, for "
        f"{len(found.explicit)} conditions of explicit regularisation: {'; '.join(told)}."
    )
    return show(fig, alt=alt)


# Random labels with regularisation.


def memory(found: Found) -> pd.DataFrame:
    """Networks on random labels, those without regularisation first, and whether they fit them."""
    rows = found.test[found.test.condition.isin(found.of_kind["random labels"])]
    rows = rows[rows.random_labels == 1].assign(condition="none")
    every = pd.concat([rows, found.memory])
    return every.assign(fitted=every.train_error <= FITTED)


def memory_table(found: Found) -> pd.DataFrame:
    """How well they fit them."""
    rows = memory(found)
    made = rows.groupby("condition", sort=False).agg(
        runs=("fitted", "size"), fitted=("fitted", "sum"), diverged=("diverged", "sum")
    )
    columns = {
        "epochs": ("epochs", ".0f"),
        "loss": ("train_loss", ".3f"),
        "training error, %": ("train_error", ".1f"),
        "test error, %": ("test_error", ".1f"),
        "deflection": ("deflection", ".3f"),
    }
    made = made.rename(columns={"fitted": "training error at most 1 %"})
    return made.join(same_loss.means(rows, columns)).rename_axis(
        index=None, columns="regularisation"
    )


# Outcomes.


def outcomes(found: Found) -> dict[str, Outcome]:
    """What the tests say of the hypotheses, in their order."""
    ranks = correlations(found).values()
    helps = Outcome.NOT_TESTED
    if found.trained and any(x.n for x in ranks):
        helps = rules.decide(
            all(rules.larger(x, 0) for x in ranks),
            any(rules.smaller(x, rules.WEAK) for x in ranks),
        )
    fitted = (found.memory.train_error <= FITTED).all()
    return (
        found.bends
        | mixup.outcomes(found)
        | {
            "what helps, helps by straightening": helps,
            "learning by heart is not prevented": rules.decide(bool(fitted), False),
        }
    )


def outcome_table(found: Found) -> Styler:
    """The same, as a table."""
    rows = [{"hypothesis": name, "in this run": str(x)} for name, x in outcomes(found).items()]
    return pd.DataFrame(rows).style.hide(axis="index")
