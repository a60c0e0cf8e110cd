"""Chapter "Where it fails": pairs of two classes, off the data, Fourier features, softplus."""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.chapters import protocols
from implreg_book.chapters import where_it_fails_pairs as pairs
from implreg_book.chapters import where_it_fails_signals as signals
from implreg_book.chapters.missing import NOT_TESTED, instead, paired, told
from implreg_book.evidence import claims, hypotheses, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.rules import Outcome
from implreg_book.experiments import coordinates, limits, smooth
from implreg_book.parameters.where_it_fails import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of

_EXPECTED = {"above": "above 1", "below": "below 1", "near": f"1 {rules.WITHIN}"}
_SOME = {  # columns that a table lacks where no network has them
    "networks": ["from_angle", "place", "steepness", "used", "crossings"],
    "signals": ["fluctuation", "coarse_fluctuation", "exact_fluctuation", "error"],
}


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        networks: on pairs, and off the data.
        signals: networks that map a coordinate to a signal.
        smooth: see `implreg_book.experiments.smooth.run`.
    """

    p: Parameters
    networks: pairs.Networks
    signals: signals.Signals
    smooth: pd.DataFrame

    @cached_property
    def judged(self) -> pd.DataFrame:
        """All expectations, judged together; see `implreg_book.evidence.hypotheses.judge`."""
        return hypotheses.judge(self.networks.tests() | self.signals.tests())

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What becomes of each expectation."""
        rows = self.judged[["ratio", "outcome"]].itertuples()
        return {
            name: Outcome(outcome) if ratio.n else Outcome.NOT_TESTED
            for name, ratio, outcome in rows
        }

    def of(self, column: str, samples: int, sharpness: float | None = None) -> pd.Series:
        """A measure of sampled slopes, by seed, of softplus of some sharpness or of ReLU."""
        rows = self.smooth[self.smooth.samples == samples]
        own = rows.sharpness.isna() if sharpness is None else rows.sharpness == sharpness
        return rows[own].set_index("seed")[column]


def grids(p: Parameters) -> Grids:
    """Networks on digits, networks on signals, four curves of them, and softplus."""
    softened = [
        smooth.Config(p.dataset, p.width, seed, p.sharpness, p.samples, pairs=1)
        for seed in range(p.smooth_seeds)
    ]
    return {
        "networks": Grid(limits.run, pairs.configs(p), "pairs and paths"),
        "signals": Grid(coordinates.run, signals.configs(p), "signals"),
        "curves": Grid(coordinates.curve, signals.drawn(p), "curves"),
        "smooth": Grid(smooth.run, softened, "smooth activations"),
    }


def protocol(p: Parameters) -> Aspects:
    """What the runs on pairs have of the aspects of a protocol."""
    one = pairs.configs(p)[0]
    return {
        **protocols.of_perceptrons([p.width], p.seeds),
        **protocols.of_trained(one, one.sgd, kinds=pairs.KINDS),
    }


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    for name, columns in _SOME.items():
        missing = [column for column in columns if column not in tables[name]]
        tables[name] = tables[name].assign(**dict.fromkeys(missing, np.nan))
    return Found(
        p,
        pairs.Networks(p, tables["networks"]),
        signals.Signals(p, tables["signals"], tables["curves"]),
        tables["smooth"],
    )


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    outcomes = found.outcomes
    of = {
        "supported": Outcome.SUPPORTED,
        "contradicted": Outcome.NOT_SUPPORTED,
        "undecided": Outcome.UNDECIDED,
        "untested": Outcome.NOT_TESTED,
    }
    return {
        "tests": len(outcomes),
        **{name: list(outcomes.values()).count(outcome) for name, outcome in of.items()},
        **pairs.numbers(found.networks, outcomes),
        **signals.numbers(found.signals, outcomes),
        **_smooth_numbers(found),
    }


def _smooth_numbers(found: Found) -> dict[str, object]:
    p, (coarser, finest) = found.p, found.p.samples[-2:]

    def settled(column: str, power: int) -> str:
        """For how much softplus a measure changes with the last two grids as theory says."""
        factor = (coarser / finest) ** power
        ratios = [
            paired(factor * found.of(column, coarser, b), found.of(column, finest, b))
            for b in p.sharpness
        ]
        known = [rules.same(x) for x in ratios if x.n]
        of = f"degree{'s' * (len(known) > 1)} of sharpness"
        return words.how_many(sum(known), len(known), of) if known else f"none ({NOT_TESTED})"

    above = {name: found.smooth[f"largest_{name}_ratio"].max() - 1 for name in ("bend", "square")}
    sharpest = found.of("bend", finest, p.sharpness[-1])
    return {
        "smooth-seeds": p.smooth_seeds,
        "finest": f"{finest:,}",
        "coarser": f"{coarser:,}",
        "settled": settled("total_variation", 0),
        "inverse": settled("quadratic_variation", 1),
        "sharpest": f"{p.sharpness[-1]:,.12g}",
        "bend": told(paired(sharpest, found.of("bend", finest)), ".3f"),
        **{
            f"{name}-excess": f"{max(0.0, x):.1g}" if x < 1 else "large, as the grid misses bends"
            for name, x in above.items()
        },
    }


def smooth_figure(found: Found) -> Figure:
    """Total and quadratic variation against the number of intervals."""
    rows, finest = found.smooth, found.p.samples[-1]
    columns = {"total": "sum of |gaps| / ReLU's", "v": "V / ReLU's"}
    rows = rows.assign(
        total=rows.total_variation / rows.seed.map(found.of("bend", finest)),
        v=rows.quadratic_variation / rows.seed.map(found.of("quadratic_variation", finest)),
    )
    both = rows[list(columns)]
    rows = rows[((both > 0) & np.isfinite(both)).all(axis=1)]
    if rows.empty:
        return instead("networks with smooth activations")
    return figures.plot_against(
        rows, "samples", list(columns), by="activation", log="xy", xlabel="intervals n",
        ylabel=list(columns.values()),
    )  # fmt: skip


def smooth_table(found: Found) -> pd.DataFrame:
    """Integrals and sums on the finest grid."""
    rows = found.smooth[found.smooth.samples == found.p.samples[-1]]
    rows = rows.assign(scaled=rows.samples * rows.quadratic_variation)
    means = rows.groupby("activation", sort=False).mean(numeric_only=True)
    return pd.DataFrame(
        {
            "∫|φ''| (ReLU: sum of |gaps|)": means.bend.map("{:.3f}".format),
            "sum of |gaps|, finest": means.total_variation.map("{:.3f}".format),
            "∫φ''²": means.square.map("{:,.1f}".format).where(means.sharpness.notna(), "infinite"),
            "n V, finest": means.scaled.map("{:,.1f}".format),
            "deflection, finest": means.deflection.map("{:.3f}".format),
        }
    ).rename_axis(index=None)


def tests_table(found: Found, section: str) -> pd.DataFrame:
    """What we expected of "pairs", "off" the data, or of "signals", and what came out."""
    of_networks = list(found.networks.tests())
    names = {"pairs": of_networks[:9], "off": of_networks[9:], "signals": found.signals.tests()}
    rows = found.judged.loc[list(names[section])]
    bounds = zip(rows.ratio, rows.low, rows.high, strict=True)
    return pd.DataFrame(
        {
            "expected": rows.expected.replace(_EXPECTED),
            "ratio [95 %]": [told(ratio, ".3f") for ratio in rows.ratio],
            "widened": [f"[{a:.3f}, {b:.3f}]" if x.n > 1 else "none" for x, a, b in bounds],
            "expectation": [str(found.outcomes[name]) for name in rows.index],
        }
    ).rename_axis(index=None)


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims on these pairs."""
    p, networks = found.p, found.networks
    where = f"{p.dataset}, one hidden layer of {p.width:,} units, plain SGD for {p.epochs:,} epochs"
    bridge, straight = networks.kinds("bridge_ratio"), networks.kinds("straightness")
    others = {f"{kind} pairs": x for kind, x in straight.items() if kind != "farthest"}
    classes = {"different": "different-class", "farthest": "farthest same-class"}
    scopes = {kind: f"{where}, {of} pairs" for kind, of in classes.items()}
    made = {
        **{kind: claims.random_walk_bridge(bridge[kind], scope=scopes[kind]) for kind in classes},
        "straight": claims.almost_straight(
            straight["farthest"], others=others, scope=scopes["farthest"]
        ),
    }
    return {
        name: verdict
        if verdict.effect.n
        else claims.not_tested(verdict.claim, networks.why or "no path bends", scope=verdict.scope)
        for name, verdict in made.items()
    }


FIGURES = {
    "smooth": smooth_figure,
    "angles": lambda found: pairs.angles_figure(found.networks),
    "boundary": lambda found: pairs.boundary_figure(found.networks),
    "off": lambda found: pairs.off_figure(found.networks),
    "curves": lambda found: signals.curves_figure(found.signals),
    "between": lambda found: signals.between_figure(found.signals),
}
TABLES = {
    "smooth": smooth_table,
    "kinds": lambda found: pairs.kinds_table(found.networks),
    "shape": lambda found: pairs.shape_table(found.networks),
    "off": lambda found: pairs.off_table(found.networks),
    "optimisers": lambda found: signals.optimisers_table(found.signals),
    **{f"tests-{name}": partial(tests_table, section=name) for name in ("pairs", "off", "signals")},
}
