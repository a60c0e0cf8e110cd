"""Chapter "Margin and fluctuation": figure 6 of the paper."""

from dataclasses import dataclass

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from implreg.figures import Figure
from implreg.figures.display import CATEGORIES, MARKERS, MUTED, number, show, style
from implreg_book.chapters import families
from implreg_book.chapters.families import KINDS, NAMES, TITLES, over_seeds, paired, said
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.statistics import NONE, Estimate, share_interval
from implreg_book.parameters.margin import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.protocol import Aspects, together
from implreg_book.runs.grids import Grids, tables_of

_SIZES = {"mlp": "of width {:,}", "vgg": "with {} convolutions", "resnet": "of depth {}"}


@dataclass(frozen=True)
class Found(families.Networks):
    """What the runs have found, see `Networks`; its numbers are of the largest networks."""

    p: Parameters

    def of(self, family: str, kind: str | None = None) -> pd.DataFrame:
        """As of `Networks`, and how far and how many times the margin exceeds the fluctuation."""
        rows = super().of(family, kind)
        return rows.assign(
            lead=rows.edge_margin - rows.fluctuation,
            relative=rows.edge_margin / rows.fluctuation,
            leaves=100 * rows.leaves_prediction,
        )

    def followed(self, family: str, kind: str) -> pd.DataFrame:
        """The largest networks at every epoch."""
        rows = self.of(family, kind)
        return rows[rows[NAMES[family]] == self.largest(family)]

    def last(self, family: str, kind: str | None = None) -> pd.DataFrame:
        """The largest networks at the end, by seed."""
        return self.end(family, self.largest(family), kind)

    def relative(self, family: str, kind: str | None = None) -> Estimate:
        """Fluctuation over edge margin at the end, of no run where a margin is not positive."""
        rows = self.last(family, kind)
        return paired(rows.fluctuation, rows.edge_margin)

    def leaving(self, family: str, kind: str | None = None) -> str:
        """Share of paths that leave their predictions at the end, in per cent."""
        shares = self.last(family, kind).leaves_prediction
        trials = self.p.pairs if family == "mlp" else self.p.conv_pairs
        found = share_interval(shares, trials) if len(shares) else NONE
        return said(found.map(lambda share: 100 * share), ".1f")

    def rise(self, family: str, name: str) -> Estimate:
        """Last minus first measurement of a column."""
        start = self.start(family, self.largest(family))
        return over_seeds((self.last(family)[name] - start[name]).dropna())


def grids(p: Parameters) -> Grids:
    """The networks of the chapter "During SGD"."""
    return {"networks": families.networks(p)}


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return together(*families.protocol(p).values()) | {
        "averages": "root mean squares; means of margins",
        "x axis": "fluctuation; epoch",
    }


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    return Found(p, tables_of(grids(p))["networks"])


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p = found.p
    reasons = [found.untested(family, [found.largest(family)]) for family in TITLES]
    why = "; ".join(filter(None, reasons))
    grows, leads = (
        words.how_many(sum(rules.larger(found.rise(f, name), 0) for f in TITLES), 3, "families")
        for name in ("fluctuation", "lead")
    )
    return {
        "kinds": listed([KINDS[kind] for kind in p.kinds]),
        "kind": KINDS[p.kinds[0]],
        "seeds": families.seeds(p.seeds),
        "networks": sum(len(found.sizes(family)) for family in TITLES) * p.seeds,
        "diverged": found.lost,
        "untested": why and f"Not all of these networks are trained: {why}.",
        "growth": f"the fluctuation clearly grows in {grows}, and the margin clearly grows by more "
        f"in {leads}",
        "multiple": words.by_sign(
            found.rise("mlp", "relative"),
            above="the margin ends as a larger multiple of the fluctuation than it began",
            below="the margin ends as a smaller multiple of the fluctuation than it began",
            unclear="the margin may end as a larger or smaller multiple of the fluctuation",
        ),
        "leaves": words.by_sign(
            found.rise("mlp", "leaves"), above="rises", below="falls", unclear="may rise or fall"
        ),
        "unfitted": _unfitted(found),
        "across": _across(found),
        **{f"{family}-ratio": said(found.relative(family)) for family in TITLES},
        "mlp-leaves": found.leaving("mlp"),
    }


def _unfitted(found: Found) -> str:
    """How paths to a test sample compare with those between training samples, in a sentence."""
    if not {"same", "train-test"} <= set(found.p.kinds):
        return ""
    beyond, within = (found.last("mlp", kind).relative for kind in ("train-test", "same"))
    ratio = found.relative("mlp", "train-test")
    straight = rules.smaller(ratio) and not found.untested("mlp", [found.largest("mlp")])
    return (
        f"Between a training and a test sample the fluctuation ends at {said(ratio)} of the "
        f"margin, {said(paired(within, beyond))} times as much as between two training samples"
        f"{': that both ends were fitted is not what keeps the path straight' * straight}."
    )


def _across(found: Found) -> str:
    """How paths between classes fare, in a sentence."""
    if "different" not in found.p.kinds:
        return ""
    small = rules.smaller(found.relative("mlp", "different"))
    although = (
        ", although their fluctuation is smaller than the margin of the ends: on such a path the "
        "margin itself passes through zero"
    )
    return (
        "Pairs of different classes must cross a decision boundary, and "
        f"{found.leaving('mlp', 'different')} % of their paths visit a third class on the way"
        f"{although * small}."
    )


def margin_figure(found: Found) -> Figure:
    """Edge margin against fluctuation, one panel for each family."""
    looks = list(zip(found.p.kinds, CATEGORIES, MARKERS, strict=False))
    alt = []
    with style():
        fig, panels = plt.subplots(1, len(TITLES), figsize=(6.6, 3.4), layout="constrained")
        for panel, (family, title), letter in zip(panels, TITLES.items(), "abc", strict=True):
            panel.set_title(f"{letter}  {title}", loc="left", fontsize=9)
            for kind, colour, marker in looks:
                rows = found.followed(family, kind)
                for _, run in rows.groupby("seed"):
                    panel.plot(run.fluctuation, run.edge_margin, alpha=0.25, lw=0.8, color=colour)
                mean = rows.groupby("epoch")[["fluctuation", "edge_margin"]].mean()
                panel.plot(mean.fluctuation, mean.edge_margin, marker=marker, ms=4, color=colour)
                alt += [
                    f"{title}, {kind}: at epoch {epoch:,} fluctuation {number(end.fluctuation)}, "
                    f"margin {number(end.edge_margin)}"
                    for epoch, end in mean.tail(1).iterrows()
                ]
            reach = max(panel.get_xlim()[1], 0.0)
            panel.plot([0, reach], [0, reach], ":", color=MUTED, lw=1.2)
            panel.set_xlabel("fluctuation")
        panels[0].set_ylabel("edge margin")
        handles = [Line2D([], [], color=c, marker=m, label=kind) for kind, c, m in looks]
        handles.append(Line2D([], [], color=MUTED, ls=":", label="margin = fluctuation"))
        fig.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8)
    return show(
        fig,
        alt="Three panels with the edge margin against the fluctuation, one point per measured "
        f"epoch, for each kind of pairs. {'; '.join(alt)}.",
    )


def epochs_figure(found: Found) -> Figure:
    """Perceptrons: margin over fluctuation and the share of paths that leave, against epoch."""
    rows = pd.concat([found.followed("mlp", kind) for kind in found.p.kinds])
    labels = {"relative": "edge margin over fluctuation", "leaves": "paths leaving, %"}
    return families.over_epochs(rows, "kind", labels)


def table(found: Found) -> pd.DataFrame:
    """All numbers at the end, by family and kind of pairs."""
    rows = {}
    for family, title in TITLES.items():
        for kind in found.p.kinds:
            end, ratio = found.last(family, kind), found.relative(family, kind)
            undefined = len(end) and not ratio.n
            rows[f"{title}, {kind}"] = {
                "fluctuation": said(over_seeds(end.fluctuation)),
                "edge margin": said(over_seeds(end.edge_margin)),
                "fluctuation over margin": "margin not positive" if undefined else said(ratio),
                "leave their predictions, %": found.leaving(family, kind),
            }
    return pd.DataFrame(rows).T


def verdicts(found: Found) -> dict[str, Verdict]:
    """Whether the path is almost straight after training, by family."""
    p, judged = found.p, {}
    for family, letter in zip(TITLES, "abc", strict=True):
        size, ratio = found.largest(family), found.relative(family)
        elsewhere = {f"{kind} pairs": found.relative(family, kind) for kind in p.kinds[1:]}
        others = {name: estimate for name, estimate in elsewhere.items() if estimate.n}
        scope = (
            f"{p.dataset}, {families.pairs_of(p.kinds[0])}, {TITLES[family]} "
            f"{_SIZES[family].format(size)}, after {words.some(found.epochs(family)[-1], 'epoch')} "
            "of SGD"
        )
        why = found.untested(family, [size])
        if not why and not ratio.n:
            why = "an edge margin is not positive, so that there is no ratio to it"
        if why:
            verdict = claims.not_tested("C6", why, scope=scope)
        else:
            verdict = claims.almost_straight(ratio, scope=scope, others=others)
        judged[family] = verdict.of_figure(f"6 {letter}")
    return judged


FIGURES = {"margin": margin_figure, "epochs": epochs_figure}
TABLES = {"numbers": table}
