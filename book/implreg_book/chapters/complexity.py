"""Chapter "Complexity measures: does straightness predict generalisation?"."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd
from matplotlib import pyplot as plt

import implreg as ir
from implreg.figures.display import CATEGORIES, MARKERS, Figure, legend, number
from implreg_book import figures
from implreg_book.chapters import compared, double_descent, protocols
from implreg_book.chapters.compared import Compared
from implreg_book.chapters.complexity_measures import BENDS, MEASURES, PAPER, WITHIN
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.rules import WEAK, Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments import conditions
from implreg_book.experiments.ablations import REFERENCE
from implreg_book.experiments.conditions import Conditions
from implreg_book.figures.axes import log_axis
from implreg_book.parameters.complexity import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grids, tables_of

_SETS = {"all": "all networks", "true": "true labels"}
_CAP = 450  # epochs of regularised networks, as in their chapter


@dataclass(frozen=True)
class Found(Compared):
    """What the runs have found, see `Compared`; the table has `group`, `units` and `gap`, too."""

    p: Parameters
    quantities: ClassVar = {"deflection": "deflection", "test_error": "test error"}

    @cached_property
    def sets(self) -> dict[str, pd.DataFrame]:
        """Networks that did not diverge, at the last loss: all, and those with true labels."""
        fine = self.last[~self.last.diverged.astype(bool)]
        return {"all networks": fine, "true labels": fine[fine.random_labels == 0]}

    def correlation(
        self, of: str, measure: str, *, target: str = "test_error", tests: int = len(MEASURES)
    ) -> Estimate:
        """Partial rank correlation of a measure, given the training loss, over one of `sets`."""
        settings: dict[str, Any] = {"tests": tests, "resamples": self.p.resamples}
        return compared.correlation(self.sets[of], measure, target, given="train_loss", **settings)

    @cached_property
    def correlations(self) -> dict[str, dict[str, Estimate]]:
        """Those of all measures with the test error."""
        return {
            of: {name: self.correlation(of, m) for m, name in MEASURES.items()} for of in self.sets
        }

    @cached_property
    def gaps(self) -> dict[str, dict[str, Estimate]]:
        """Those with the generalisation gap."""
        return {
            of: {name: self.correlation(of, m, target="gap") for m, name in MEASURES.items()}
            for of in self.sets
        }

    @cached_property
    def within(self) -> dict[str, dict[str, Estimate]]:
        """Plain rank correlations where one thing changes, the reference among it if it may be."""
        fine = self.sets["all networks"]
        groups = [g for g in dict.fromkeys(self.last.group) if g != REFERENCE]
        settings: dict[str, Any] = {"tests": len(MEASURES), "resamples": self.p.resamples}
        found = {}
        for group in groups:
            among = [group] if group == "widths" else [group, REFERENCE]
            rows = fine[fine.group.isin(among)]
            found[group] = {
                MEASURES[m]: compared.correlation(rows, m, "test_error", **settings) for m in WITHIN
            }
        return found


def groups_of(p: Parameters) -> dict[str, Conditions]:
    """What changes, by chapter."""
    usual = compared.reference_of(p)
    return {
        "starts": conditions.starts(usual),
        "optimisers": conditions.optimisers(usual),
        "architectures": conditions.architectures(usual),
        "labels and regularisers": conditions.regularisers(usual, cap=min(_CAP, p.epochs)),
        "widths": conditions.widths(usual, widths=p.widths, random_labels=p.random_labels),
    }


def grids(p: Parameters) -> Grids:
    """The networks of the part on ablations, and wider and wider ones on noisy labels."""
    every = {name: what for group in groups_of(p).values() for name, what in group.items()}
    return {"networks": compared.networks(p, every)}


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return protocols.of_ablation(grids(p)["networks"].configs)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    table = tables_of(grids(p))["networks"]
    columns = [m for m in MEASURES if m != "straightness"]
    table = compared.completed(
        table, (*columns, "test_error", "test_loss", "train_error", "train_loss")
    )
    groups = groups_of(p)
    group = {name: key for key, every in groups.items() for name in every}
    units = {name: what["network"]["widths"][0] for name, what in groups["widths"].items()}
    return Found(
        p,
        table.assign(
            group=table.condition.map(group).fillna(REFERENCE),
            units=table.condition.map(units),
            gap=table.test_loss - table.train_loss,
        ),
    )


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, judged, told = found.p, verdicts(found), found.told()
    fine, within = found.sets["all networks"], found.within
    cells = [x for group in within.values() for x in group.values()]
    sizes = found.last[found.last.group != REFERENCE].groupby("group").condition.nunique()
    deflection = MEASURES["deflection"]
    straight = found.correlation("true labels", "deflection", tests=1)
    return {
        **{name: told[name] for name in ("seeds", "target", "diverged")},
        **_sets(found, judged),
        **double_descent.told(fine, p.random_labels),
        "answer": f"Not tested: {judged['true labels'].details}."
        if judged["true labels"].outcome is Outcome.NOT_TESTED
        else words.by_sign(
            straight,
            above="Somewhat.",
            below="Rather the opposite.",
            unclear="Not that one could see.",
        ),
        "width-range": f"{min(p.widths):,} to {max(p.widths):,}",
        "noise": listed([f"{100 * share:g}" for share in p.random_labels], "or"),
        "configurations": told["conditions"],
        "weak": f"{WEAK:g}",
        "resamples": f"{p.resamples:,}",
        "measures": len(MEASURES),
        "unreached": told["lost"],
        "fine": f"{len(fine):,}",
        "test-samples": f"{len(compared.reference_of(p).data().y_test):,}",
        "means": {
            Outcome.SUPPORTED: "go with the test error, which supports",
            Outcome.NOT_SUPPORTED: "do not all go with the test error, which speaks against",
            Outcome.UNDECIDED: "do not clearly go with the test error, which leaves open",
            Outcome.NOT_TESTED: "could not be tested, which leaves open",
        }[judged["true labels"].outcome],
        "exceptions": _exceptions(found),
        "gap-best": listed(_largest(found.gaps["all networks"])[:3]) or "none",
        "within-optimisers": compared.correlated(within["optimisers"][deflection]),
        "optimisers": words.by_sign(
            within["optimisers"][deflection],
            above="a relation there, too",
            below="the opposite relation",
            unclear="no relation that one can see",
        ),
        "within-widths": compared.correlated(within["widths"][deflection]),
        "within-widths-tv": compared.correlated(within["widths"][MEASURES["total_variation"]]),
        "within-apart": sum(rules.apart(x, 0) for x in cells),
        "within-cells": len(cells),
        "within-sizes": f"{sizes.min()} to {sizes.max()}",
    }


def _largest(found: Mapping[str, Estimate]) -> list[str]:
    """The measures that have a correlation, the largest first."""
    return sorted((name for name in found if found[name].n), key=lambda name: -found[name].value)


def _sets(found: Found, judged: Mapping[str, Verdict]) -> dict[str, object]:
    """What the prose says of all networks and of those with true labels."""
    told: dict[str, object] = {}
    for key, of in _SETS.items():
        every = found.correlations[of]
        best = _largest(every)[:1]
        told |= {
            f"{key}-configurations": found.sets[of].condition.nunique(),
            f"{key}-deflection-plain": compared.correlated(
                found.correlation(of, "deflection", tests=1)
            ),
            f"{key}-switches": compared.correlated(every["switches"]),
            f"{key}-gradient": compared.correlated(every["gradient norm"]),
            f"{key}-straightness": compared.correlated(every["fluctuation / edge margin"]),
            f"{key}-best": f"{best[0]} ({every[best[0]]:.2f})" if best else "none",
            f"{key}-above": sum(rules.larger(x, 0) for x in every.values()),
            f"{key}-below": sum(rules.smaller(x, 0) for x in every.values()),
            f"verdict-{key}": str(judged[of].outcome),
        }
    every, true = (found.correlations[of] for of in _SETS.values())
    both = [name for name in every if every[name].n and true[name].n]
    weaker = sum(abs(true[name].value) < abs(every[name].value) for name in both)
    kinks = any(rules.apart(found.correlations[of]["switches"], 0) for of in _SETS.values())
    return told | {
        "weaker": f"{weaker} of {len(both)}",
        "kinks": "Counting kinks tells something"
        if kinks
        else "Counting kinks tells nothing clear",
        **_other(found),
    }


def _other(found: Found) -> dict[str, object]:
    """Where the deflection stands, and the best measure of another kind, with true labels."""
    order = _largest(found.correlations["true labels"])
    deflection, column_of = MEASURES["deflection"], {name: m for m, name in MEASURES.items()}
    others = [name for name in order if column_of[name] not in BENDS]
    rank, other = "Which measures lead among these is not known.", "no measure of another kind"
    if others:
        plain = found.correlation("true labels", column_of[others[0]], tests=1)
        other = f"{others[0]} ({compared.correlated(plain)})"
    if deflection in order and others:
        rank = (
            f"By size of this correlation the deflection is number {1 + order.index(deflection)} "
            f"of {len(order)} measures; of those that are not about how paths bend, the first is "
            f"{other}."
        )
    return {"rank": rank, "other": other}


def _exceptions(found: Found) -> str:
    """How often the error does not go with the deflection when one thing changes."""
    ratios = found.ratios_at(found.p.target_losses[-1], plain=True)
    kinds = {q: {c: compared.changed(x) for c, x in of.items()} for q, of in ratios.items()}
    true = set(found.sets["true labels"].condition)
    bent = {c: k for c, k in kinds["deflection"].items() if c in true and k in ("rises", "falls")}
    errors = kinds["test error"]
    against = [c for c, k in bent.items() if errors[c] in ({"rises", "falls", "same"} - {k})]
    if not bent:
        return "here no configuration has clearly another deflection than the reference"
    return (
        f"of {len(bent)} configurations with true labels whose deflection is clearly another than "
        f"that of the reference, {len(against)} have the same test error {rules.WITHIN}, or one "
        f"that goes the other way"
    )


def arrivals(found: Found) -> pd.DataFrame:
    """How many networks there are of each kind, and their test errors."""
    rows = found.last.groupby("group", sort=False).agg(
        configurations=("condition", "nunique"),
        networks=("reached", "size"),
        reached=("reached", "sum"),
        diverged=("diverged", "sum"),
        low=("test_error", "min"),
        high=("test_error", "max"),
    )
    for column in ("low", "high"):
        rows[column] = (100 * rows[column]).map("{:.1f}".format).where(rows[column].notna(), "")
    rows.columns = pd.Index([*rows.columns[:-2], "smallest test error, %", "largest, %"])
    return rows.rename_axis(index=None)


def correlation_figure(found: Found) -> Figure:
    """All partial correlations with the test error."""
    what = "partial rank correlations with the test error given the training loss"
    return figures.plot_correlations(found.correlations, of=what)


def _told(found: Mapping[str, Mapping[str, Estimate]], head: str) -> pd.DataFrame:
    rows = {
        of: {name: compared.correlated(x) for name, x in all_.items()} for of, all_ in found.items()
    }
    return pd.DataFrame(rows).rename_axis(columns=head)


def gap_table(found: Found) -> pd.DataFrame:
    """Correlations with the generalisation gap."""
    return _told(found.gaps, "partial rank correlation with the generalisation gap")


def within_table(found: Found) -> pd.DataFrame:
    """Correlations where one thing changes."""
    return _told(found.within, "rank correlation with the test error within")


def scatter_figure(found: Found) -> Figure:
    """Means of the configurations."""
    columns = ["deflection", "straightness", "test_error"]
    fine = found.sets["all networks"]
    means = fine.groupby(["group", "condition"], sort=False)[columns].mean()
    means = means[(means > 0).all(axis=1)]
    groups = [g for g in means.index.unique("group") if g != REFERENCE]
    if not groups:
        return nothing_to_draw(compared.NO_NETWORK)
    with ir.figures.style():
        fig, panels = plt.subplots(1, 2, figsize=(6.6, 3.7), sharey=True, layout="constrained")
        told, handles = [], []
        for group, marker, colour in zip(groups, MARKERS, CATEGORIES, strict=False):
            part = means.loc[group]
            for panel, column in zip(panels, columns, strict=False):
                (dots,) = panel.plot(
                    part[column], 100 * part.test_error, marker, color=colour, markersize=6,
                    alpha=0.85, label=group,
                )  # fmt: skip
            handles.append(dots)
            told.append(
                f"{group}: deflection {number(part.deflection.min())} to "
                f"{number(part.deflection.max())}, test error "
                f"{number(100 * part.test_error.min())} to {number(100 * part.test_error.max())} %"
            )
        for panel, label in zip(
            panels, ["gradient deflection", "fluctuation / margin"], strict=True
        ):
            log_axis(panel, "x")
            panel.set_xlabel(label)
        panels[0].set_ylabel("test error, %")
        legend(fig, handles)
    return ir.figures.show(
        fig,
        alt=f"Two scatter plots of test error against deflection and against fluctuation over edge "
        f"margin, one mark per configuration. {'; '.join(told)}.",
    )


def descent_figure(found: Found) -> Figure:
    """Networks of growing width on noisy labels."""
    return double_descent.figure(found.sets["all networks"])


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for claim C8, by set of networks."""
    judged = {}
    for of, rows in found.sets.items():
        scope = (
            f"{of}; {found.p.dataset}, {found.p.train:,} training samples, given the training loss"
        )
        every = {MEASURES[m]: found.correlation(of, m, tests=1) for m in PAPER}
        undefined = [name for name, x in every.items() if not x.n]
        wrong = 100 * rows.train_error.mean()
        why = f"the networks get {wrong:.0f} % of their training samples wrong"
        if rows.empty:
            why = "no network was measured, as all diverged"
        elif rules.trained(rows.train_error):
            why = f"the correlation of {listed(undefined)} is not known" if undefined else ""
        judged[of] = (
            claims.not_tested("C8", why, scope=scope)
            if why
            else claims.tracks_generalisation(every, scope=scope)
        )
    return judged


FIGURES = {
    "correlations": correlation_figure,
    "scatter": scatter_figure,
    "descent": descent_figure,
}
TABLES = {"arrivals": arrivals, "gap": gap_table, "within": within_table}
