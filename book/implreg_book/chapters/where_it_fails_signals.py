"""Chapter "Where it fails": networks that map one coordinate to a signal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
from matplotlib import pyplot as plt

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, INK, MUTED
from implreg_book import figures
from implreg_book.chapters.missing import NOT_TESTED, instead, mean, paired, told
from implreg_book.chapters.where_it_fails_pairs import Tests, groups, named
from implreg_book.evidence import words
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments import coordinates
from implreg_book.parameters.where_it_fails import Parameters

RELU = "ReLU"
_DESCENT, _ADAM = coordinates.OPTIMISERS
_BENT, _WORSE = "fluctuation over ReLU's, ", "error over straight lines', "


def name_of(network: str, bandwidth: float) -> str:
    """The name of a kind of networks.

    >>> name_of("relu", 0.0), name_of("fourier", 0.5), name_of("sine", 30.0)
    ('ReLU', 'Fourier 0.5', 'sine 30')
    """
    if network == "relu":
        return RELU
    return f"{'Fourier' if network == 'fourier' else network} {bandwidth:.12g}"


def _config(
    p: Parameters, kind: tuple[str, float], optimiser: str, seeds: tuple[int, ...]
) -> coordinates.Config:
    rate = p.rate if optimiser == _DESCENT else p.adam_rate
    return coordinates.Config(
        *kind, seeds, optimiser, rate, p.target_loss, p.steps, p.points, p.frequencies,
        p.coordinate_width, p.features,
    )  # fmt: skip


def configs(p: Parameters) -> list[coordinates.Config]:
    """Every kind of networks with both optimisers, the slowest first."""
    kinds = [("relu", 0.0), *(("fourier", b) for b in p.bandwidths)]
    return [
        _config(p, kind, optimiser, seeds)
        for kind in [*kinds, *(("sine", f) for f in p.factors)]
        for optimiser in coordinates.OPTIMISERS
        for seeds in groups(p.coordinate_seeds)
    ]


def drawn(p: Parameters) -> list[coordinates.Config]:
    """Four networks of the first signal, among them Fourier features that are not too fast."""
    slow = [b for b in p.bandwidths[:-1] if b <= (p.points - 1) / 4]
    fourier = [("fourier", b) for b in (max(slow, default=p.bandwidths[0]), p.bandwidths[-1])]
    kinds = [("relu", 0.0), *fourier, ("sine", p.factors[-1])]
    return [replace(_config(p, kind, _DESCENT, (0,)), samples=40) for kind in kinds]


@dataclass(frozen=True)
class Signals:
    """What the networks of the third section do.

    Attributes:
        p: the parameters.
        fits: see `implreg_book.experiments.coordinates.run`.
        curves: see `implreg_book.experiments.coordinates.curve`.
    """

    p: Parameters
    fits: pd.DataFrame
    curves: pd.DataFrame

    @cached_property
    def named(self) -> pd.DataFrame:
        """The rows of all networks, with their names and relative measures."""
        fits = self.fits
        kinds = zip(fits.network, fits.bandwidth, strict=True)
        return fits.assign(
            net=[name_of(*kind) for kind in kinds],
            relative=fits.fluctuation / fits.signal_fluctuation,
            over_lines=fits.error / fits.line_error,
            start=fits.start_fluctuation / fits.start_spread,
        )

    @property
    def nets(self) -> list[str]:
        """Names of the networks, ReLU first."""
        return list(dict.fromkeys(self.named.net))

    @property
    def widest(self) -> str:
        """The Fourier features of the largest bandwidth."""
        return name_of("fourier", self.p.bandwidths[-1])

    @cached_property
    def arrived(self) -> pd.DataFrame:
        """The rows of networks that reached the loss."""
        return self.named[self.named.reached]

    def of(self, net: str, column: str, optimiser: str = _DESCENT) -> pd.Series:
        """One quantity of one kind of networks, by seed; only seeds that reached the loss."""
        rows = self.arrived[(self.arrived.net == net) & (self.arrived.optimiser == optimiser)]
        return rows.set_index("seed")[column].sort_index()

    def bent(self, net: str, optimiser: str = _DESCENT) -> Estimate:
        """The fluctuation over that of ReLU networks."""
        return paired(*(self.of(name, "fluctuation", optimiser) for name in (net, RELU)))

    def worse(self, net: str, optimiser: str = _DESCENT) -> Estimate:
        """The error over that of straight lines."""
        return paired(self.of(net, "over_lines", optimiser))

    def tests(self) -> Tests:
        """What we expected of them."""
        others = self.nets[1:]
        return {
            **{_BENT + net: ("above", self.bent(net)) for net in others},
            _WORSE + RELU: ("below", self.worse(RELU)),
            **{_WORSE + net: ("above", self.worse(net)) for net in others},
        }

    @cached_property
    def swayed(self) -> str:
        """The network whose error depends most on the optimiser, "" if there is none."""
        both = {
            net: math.log(self.worse(net).value / self.worse(net, _ADAM).value)
            for net in self.nets
            if self.worse(net).n and self.worse(net, _ADAM).n
        }
        return max(both, key=lambda net: abs(both[net])) if both else ""

    def kept(self) -> Estimate:
        """Rank correlation of the fluctuation before training with that after it, over networks."""
        rows = self.arrived[self.arrived.optimiser == _DESCENT]
        by_seed = rows.groupby("seed")[["start", "relative"]]
        found = mean(by_seed.apply(lambda t: t.start.corr(t.relative, method="spearman")))
        return found.map(lambda x: max(min(x, 1.0), -1.0))  # in this order NaN stays NaN


def numbers(found: Signals, outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    """What the prose says of coordinates."""
    p, fits, rows = found.p, found.named, found.arrived
    widest, fastest, kept = found.widest, found.nets[-1], found.kept()
    bent, worse = (
        {net: outcomes[start + net] for net in found.nets[1:]} for start in (_BENT, _WORSE)
    )
    steps = rows[rows.optimiser == _DESCENT].groupby(rows.net == RELU).steps.median()
    misses = {
        "grid-error": (1 - rows.coarse_fluctuation / rows.fluctuation).max(),
        "exact-error": (1 - rows.fluctuation / rows.exact_fluctuation).max(),
    }
    return {
        "coordinate-seeds": p.coordinate_seeds,
        "points": p.points,
        "frequencies": p.frequencies,
        "target": f"{p.target_loss:g}",
        "half-rate": f"{(p.points - 1) / 2:g}",
        "missed": f"{len(fits) - len(rows)} of {len(fits)}",
        "coordinate-diverged": int(fits.diverged.sum()),
        "bent-more": named(bent, Outcome.SUPPORTED),
        "worse-lines": named(worse, Outcome.SUPPORTED),
        "better-lines": named(worse, Outcome.NOT_SUPPORTED),
        "relu-fluctuation": told(paired(found.of(RELU, "relative")), ".2f"),
        "widest-fluctuation": told(paired(found.of(widest, "relative")), ".1f"),
        "widest-over-relu": told(found.bent(widest), ".1f"),
        "relu-lines": told(found.worse(RELU), ".2f"),
        "widest-lines": told(found.worse(widest), ".1f"),
        "fastest": fastest,
        "fastest-lines": told(found.worse(fastest), ".1f"),
        "kept-correlation": told(kept, ".2f"),
        "relu-steps": f"{steps[True]:,.0f}" if True in steps else NOT_TESTED,
        "other-steps": f"{steps[False]:,.0f}" if False in steps else NOT_TESTED,
        "adam-widest": told(found.bent(widest, _ADAM), ".1f"),
        "adam-relu-lines": told(found.worse(RELU, _ADAM), ".2f"),
        "swayed": found.swayed or "no network",
        "swayed-descent": told(found.worse(found.swayed), ".2f"),
        "swayed-adam": told(found.worse(found.swayed, _ADAM), ".2f"),
        **{name: f"{100 * x:.1g} %" if x >= 0 else NOT_TESTED for name, x in misses.items()},
        **_sentences(found, kept, bent, worse),
    }


def _sentences(
    found: Signals, kept: Estimate, bent: Mapping[str, Outcome], worse: Mapping[str, Outcome]
) -> dict[str, str]:
    """What is concluded of coordinates."""
    first, last = found.p.bandwidths[0], found.p.bandwidths[-1]
    slow, fast = (found.of(name_of("fourier", b), "over_lines") for b in (first, last))
    return {
        "as-such": "So it is not that such networks fail as such: those named last bend as the "
        "signal does, and a fluctuation larger than ReLU's is then no fault."
        if Outcome.NOT_SUPPORTED in worse.values()
        else "",
        "with-bandwidth": words.by_ratio(
            paired(fast, slow),
            larger="The error grows with the bandwidth.",
            smaller="The error falls as the bandwidth grows.",
            same="The error does not change with the bandwidth.",
            unclear="Whether the error grows with the bandwidth is not decided here.",
        ),
        "kept": words.by_sign(
            kept,
            above="Gradient descent leaves between the points much of what the initialisation has "
            "there: networks that fluctuate more before training do so after it.",
            below="Networks that fluctuate more before training fluctuate less after it.",
            unclear="Whether networks that fluctuate more before training do so after it is not "
            "decided here.",
        ),
        "limit-init": "Put features of large bandwidth in front, and the same initialisation, the "
        "same descent and the same loss give a network that strays far from its chords. Almost "
        "straight is a property of what the random function looks like at the scale of the "
        "samples, and the input and the activation decide this."
        if bent[found.widest] is Outcome.SUPPORTED
        else "That features of large bandwidth in front make it stray farther from its chords is "
        "not shown here.",
    }


def curves_figure(found: Signals) -> Figure:
    """The first signal, the points where it is known, and four networks."""
    first = found.arrived[(found.arrived.seed == 0) & (found.arrived.optimiser == _DESCENT)]
    alt = []
    with style():
        fig, panels = plt.subplots(
            2, 2, figsize=(6.6, 5.0), sharex=True, sharey=True, layout="constrained"
        )
        for i, config in enumerate(drawn(found.p)):
            rows = found.curves[found.curves.network == config.network]
            line = rows[rows.bandwidth == config.bandwidth]
            panel, name = panels.flat[i], name_of(config.network, config.bandwidth)
            name += "" if name in set(first.net) else ", not at the loss"
            panel.set_title(f"{'abcd'[i]}  {name}", loc="left")
            panel.plot(line.x, line.signal, "--", color=MUTED, linewidth=1.6)
            panel.plot(line.x, line.value, color=CATEGORIES[0], linewidth=1.6)
            known = line[line.known]
            panel.plot(known.x, known.signal, "o", color=INK, markersize=4)
            off = (line.value - line.signal).abs().max()
            alt.append(f"{name}: at most {off:,.3g} from the signal" if off >= 0 else name)
        for panel in panels[-1]:
            panel.set_xlabel("coordinate x")
        for panel in panels[:, 0]:
            panel.set_ylabel("output")
    return show(
        fig,
        alt=f"Four panels with a signal (dashed), {found.p.points} known points and a network "
        f"through them. {'; '.join(alt)}.",
    )


def between_figure(found: Signals) -> Figure:
    """Fluctuations and errors between the points."""
    columns = {"relative": "fluctuation / signal's", "over_lines": "error / straight lines'"}
    rows = found.arrived[found.arrived.optimiser == _DESCENT]
    rows = rows[(rows[list(columns)] > 0).all(axis=1)]
    if rows.empty:
        return instead("networks that fit a signal")
    return figures.plot_compare(rows, "net", list(columns), log=True, ylabel=list(columns.values()))


def optimisers_table(found: Signals) -> pd.DataFrame:
    """All networks with both optimisers."""
    start = dict(iter(found.named.groupby("net").start))
    reached = dict(iter(found.named.groupby(["net", "optimiser"]).reached))
    rows = {}
    for net in found.nets:
        before = mean(start[net]).value
        row = {"before training: fluctuation / spread": f"{before:.2f}" if before >= 0 else "none"}
        for optimiser in coordinates.OPTIMISERS:
            count = reached[net, optimiser]
            row |= {
                f"reached, {optimiser}": f"{count.sum()} of {len(count)}",
                f"fluctuation / ReLU's, {optimiser}": told(found.bent(net, optimiser), ".2f"),
                f"error / lines', {optimiser}": told(found.worse(net, optimiser), ".2f"),
            }
        rows[net] = row
    return pd.DataFrame(rows).T
