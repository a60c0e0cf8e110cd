"""Chapter "During SGD": figures 3, 4 d-f and 5 d-f of the paper, and its figure 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from implreg.figures import Figure
from implreg_book.chapters import families, label_noise, single_runs
from implreg_book.chapters.families import (
    KINDS,
    NAMES,
    UNKNOWN,
    Networks,
    networks,
    over_epochs,
    over_seeds,
    paired,
    said,
)
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.statistics import NONE, Estimate, power_law
from implreg_book.experiments import sgd as experiment
from implreg_book.parameters.sgd import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of

_LABELS = {
    "train_loss": "training loss",
    "test_error": "test error",
    "gap_deviation": r"$\sigma_\mathrm{gap}$",
    "bridge_deviation": r"$\sigma_\mathrm{bridge}$",
    "normalized_gap_deviation": r"normalised $\sigma_\mathrm{gap}$",
    "normalized_bridge_deviation": r"normalised $\sigma_\mathrm{bridge}$",
    "deflection": r"deflection $\delta$",
    "normalized_deflection": r"normalised $\delta$",
}
_LEARNING, _GAPS, _NORMALIZED, _DEFLECTION = (list(_LABELS)[i : i + 2] for i in (0, 2, 4, 6))
_NETWORK = {"vgg": "VGG-like network with {} convolutions", "resnet": "ResNet of depth {}"}
_FIGURE = {"vgg": "4 d–f", "resnet": "5 d–f"}


@dataclass(frozen=True)
class Found(Networks):
    """What the runs have found, see `Networks`.

    Attributes:
        paths: outputs and slopes along one path of the deepest ResNet, see
            `implreg_book.experiments.sgd.first_path`.
        noisy: networks that learned noisy labels, see `implreg_book.experiments.generalisation`.
        record: of the player.
    """

    p: Parameters
    paths: pd.DataFrame
    noisy: pd.DataFrame
    record: single_runs.Record

    def whole(self, epoch: int, kind: str | None = None) -> pd.DataFrame:
        """Perceptrons at an epoch, of those seeds that have all widths left."""
        rows = self.of("mlp", kind)
        rows = rows[rows.epoch == epoch]
        left = rows.groupby("seed").width.transform("nunique")
        return rows[left == len(self.p.widths)]

    def exponent(self, epoch: int, name: str = "gap_deviation") -> Estimate:
        """Exponent of a measure of perceptrons against their width."""
        rows = self.whole(epoch)
        return power_law(rows, "width", name) if len(rows) else NONE

    def bridges(self, kind: str | None = None) -> pd.Series:
        """Bridge estimate over gap deviation at the end, averaged over widths, by seed."""
        return self.whole(self.p.measure_at[-1], kind).groupby("seed").bridge_ratio.mean()

    def change(self, name: str, size: int, family: str = "mlp") -> Estimate:
        """Last over first measurement."""
        return paired(self.end(family, size)[name], self.start(family, size)[name])

    def widest_over_narrowest(self, name: str) -> Estimate:
        """Of perceptrons at the end."""
        wide, narrow = (
            self.end("mlp", size)[name] for size in (max(self.p.widths), min(self.p.widths))
        )
        return paired(wide, narrow)


def grids(p: Parameters) -> Grids:
    """Networks of the three families, one path of the deepest ResNet, and noisy labels."""
    # Of one seed: rows of several networks could not be told apart.
    deep = next(one for one in families.configs(p) if one.network.size == max(p.depths))
    return {
        "networks": networks(p),
        "path": Grid(experiment.first_path, [deep], "path"),
        "noise": label_noise.grid(p),
    }


def protocol(p: Parameters) -> dict[str, Aspects]:
    """What these runs have of the aspects of a protocol, by the figure that they reproduce."""
    return families.protocol(p)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    return Found(p, tables["networks"], tables["path"], tables["noise"], single_runs.recorded())


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p = found.p
    return {
        "networks": len(found.sizes("mlp") + p.convolutions + p.depths) * p.seeds,
        "diverged": found.lost,
        "seeds": families.seeds(p.seeds),
        "within": rules.WITHIN,
        "kind": KINDS[p.kinds[0]],
        **_perceptrons(found),
        **_convolutional(found),
        **single_runs.path_numbers(found.paths),
        **single_runs.player_numbers(found.record),
        **label_noise.numbers(p, found.noisy),
    }


def _perceptrons(found: Found) -> dict[str, object]:
    p, (narrow, *_, wide) = found.p, found.sizes("mlp")
    first, last = (found.exponent(p.measure_at[i]) for i in (0, -1))
    normalized = found.exponent(p.measure_at[-1], "normalized_gap_deviation")
    end, why = found.end("mlp", wide), found.untested("mlp", found.sizes("mlp"))
    bends = {"larger": "yes", "smaller": "no, less", "same": "no", "unclear": "that is open"}
    unclear = "has no clear and common trend"
    courses = {"larger": "rises", "smaller": "falls", "same": "hardly changes", "unclear": unclear}
    told: dict[str, object] = {}
    answers = []
    for name, measure in zip(("raw", "normalized"), _DEFLECTION, strict=True):
        changes = [found.change(measure, size) for size in (wide, narrow)]
        told |= {f"{name}-change": said(changes[0]), f"narrow-{name}-change": said(changes[1])}
        both = {words.by_ratio(change, **courses) for change in changes}
        told[f"{name}-course"] = both.pop() if len(both) == 1 else unclear
        answers.append(words.by_ratio(changes[0], **bends))
    answer = f"As the outputs come, {answers[0]}; relative to their growth, {answers[1]}."
    if answers == [bends["larger"], bends["smaller"]]:
        answer = "Both yes and no, and it matters how one asks."
    kept = rules.smaller(first, 0)
    order = words.by_sign(
        last if kept else NONE,
        below="The order of widths survives training",
        above="The order of widths turns in training",
        unclear="Whether the order of widths survives training is open",
    )
    others = [f"{said(over_seeds(found.bridges(kind)))} ({kind})" for kind in sorted(p.kinds[1:])]
    learn = words.how_many(sum(found.trained("mlp", n) for n in p.widths), len(p.widths), "widths")
    return told | {
        "answer": f"Not tested here: {why}." if why else answer,
        "widest": f"{wide:,}",
        "epochs": f"{p.measure_at[-1]:,}",
        "growth": words.by_ratio(
            paired(end.deflection, end.normalized_deflection),
            larger="But the outputs also grow.",
            smaller="But the outputs shrink.",
            same=f"The outputs keep their size {rules.WITHIN}.",
            unclear="Whether the outputs grow is open.",
        ),
        "exponent": said(last, ".3f"),
        "exponent-before": said(first, ".3f"),
        "normalized-exponent": said(normalized, ".3f"),
        "course": words.by_sign(
            last,
            below="still falls" if kept else "falls",
            above="rises",
            unclear="neither clearly falls nor rises",
        ),
        "order": f"Whether the order of widths survives is not tested: {why}" if why else order,
        "bridge": said(over_seeds(found.bridges())),
        "other-bridges": ", ".join(others) or "not measured here",
        "between": _between(found),
        "learned": f"The perceptrons learn at {learn}",
        "train-error": f"{100 * end.train_error.max():.1f}" if len(end) else UNKNOWN,
        "test-error": said(over_seeds(100 * end.test_error), ".1f"),
        "error-ratio": said(found.widest_over_narrowest("test_error")),
    }


def _between(found: Found) -> str:
    """How paths between classes compare with those within."""
    if not {"same", "different"} <= set(found.p.kinds):
        return ""
    return words.by_ratio(
        paired(found.bridges("different"), found.bridges("same")),
        larger="Between classes that bend is larger, as the slope has to change near the boundary.",
        smaller="Between classes that bend is smaller.",
        same=f"Between classes it is the same {rules.WITHIN}.",
        unclear="Whether it is another one between classes these networks do not decide.",
    )


def _convolutional(found: Found) -> dict[str, object]:
    told: dict[str, object] = {
        "conv-epochs": f"{found.p.conv_measure_at[-1]:,}",
        "vgg-gaps": _gaps(found),
        "resnet-steps": _steps(found),
    }
    for family in _NETWORK:
        size = found.largest(family)
        why, end = found.untested(family, [size]), found.end(family, size)
        estimates = {
            "bridge": over_seeds(end.bridge_ratio),
            "raw-change": found.change("deflection", size, family),
            "normalized-change": found.change("normalized_deflection", size, family),
        }
        told |= {f"{family}-{name}": said(estimate) for name, estimate in estimates.items()} | {
            f"{family}-deepest": size,
            f"{family}-test-error": said(over_seeds(100 * end.test_error), ".1f"),
            f"{family}-trained": why and f"What training does to them is not tested: {why}.",
        }
    return told


def _gaps(found: Found) -> str:
    """How the gaps of the deepest VGG-like network change, in sentences."""
    size, epochs = found.largest("vgg"), found.p.conv_measure_at
    grow = {
        "larger": "grow",
        "smaller": "shrink",
        "same": "hardly change",
        "unclear": "may grow or shrink",
    }
    word, other = (
        words.by_ratio(found.change("gap_deviation", n, family), **grow)
        for family, n in (("vgg", size), ("mlp", found.largest("mlp")))
    )
    raw = f"{'As in the perceptrons, raw' if word == other else 'Raw'} gaps {word}."
    name = "normalized_gap_deviation"
    ends = said(found.change(name, size, "vgg"))
    means = {epoch: found.at("vgg", size, epoch)[name].mean() for epoch in epochs}
    top = max(means, key=lambda epoch: means[epoch])
    high, start = found.at("vgg", size, top), found.start("vgg", size)
    over = paired(high[name], start[name])
    if not (rules.larger(over) and rules.larger(paired(high[name], found.end("vgg", size)[name]))):
        return f"{raw} Normalised ones end at {ends} times their first value"
    shrunk = rules.smaller(paired(high.deflection, high.normalized_deflection))
    why = ", when the outputs, which they are divided by, have shrunk" * shrunk
    return (
        f"{raw} Normalised ones are highest at epoch {top}{why}: {over:.2f} times their first "
        f"value. They end at {ends} times it"
    )


def _steps(found: Found) -> str:
    """Whether the gaps of the deepest ResNet act like independent steps, in a sentence."""
    size = found.largest("resnet")
    acts = {"yes": "act", "no": "do not act", "unclear": "may or may not act"}
    before, after = (
        words.by_outcome(rules.equal(over_seeds(rows.bridge_ratio)), **acts)
        for rows in (found.start("resnet", size), found.end("resnet", size))
    )
    steps = f"The gaps of this ResNet {before} like independent steps before training"
    if before == after == acts["no"]:
        return f"{steps}, and SGD does not make them so"
    return f"{steps}, and at the end they {after} like them"


def during(found: Found, family: str, of: Sequence[str], *, log: str = "") -> Figure:
    """Measures of a family against the epoch, one group for each size."""
    return over_epochs(found.of(family), NAMES[family], {n: _LABELS[n] for n in of}, log=log)


def _row(found: Found, family: str, size: int) -> dict[str, str]:
    """Changes during training of the networks of one size."""
    end = found.end(family, size)
    return {
        "deflection, last over first": said(found.change("deflection", size, family)),
        "normalised": said(found.change("normalized_deflection", size, family)),
        "fluctuation, last over first": said(found.change("fluctuation", size, family)),
        "bridge estimate over gap deviation": said(over_seeds(end.bridge_ratio)),
        "training loss": said(over_seeds(end.train_loss), ".3f"),
        "test error in %": said(over_seeds(100 * end.test_error), ".1f"),
    }


def perceptrons_table(found: Found) -> pd.DataFrame:
    """All widths of the perceptrons."""
    return pd.DataFrame({f"width {n:,}": _row(found, "mlp", n) for n in found.sizes("mlp")}).T


def convolutional_table(found: Found) -> pd.DataFrame:
    """All sizes of the convolutional networks."""
    rows = {
        name.format(n): _row(found, family, n)
        for family, name in _NETWORK.items()
        for n in found.sizes(family)
    }
    return pd.DataFrame(rows).T


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows, by claim, and by family for those on convolutional networks."""
    p, widths = found.p, found.sizes("mlp")
    about = families.pairs_of(p.kinds[0])
    scope = (
        f"{p.dataset}, {p.train:,} training samples, {about}, one hidden layer of "
        f"{widths[0]:,} to {widths[-1]:,} units, after {words.some(p.measure_at[-1], 'epoch')} of "
        "SGD, raw"
    )
    if why := found.untested("mlp", widths):
        judged = {claim: claims.not_tested(claim, why, scope=scope) for claim in ("C3", "C4", "C5")}
    else:
        bridge = over_seeds(found.bridges())
        judged = {
            "C3": claims.width_exponent("C3", found.exponent(p.measure_at[-1]), scope=scope),
            "C4": claims.no_growth(found.widest_over_narrowest("deflection"), scope=scope),
            "C5": claims.random_walk_bridge(bridge, scope=scope),
        }
    judged = {claim: verdict.of_figure("3") for claim, verdict in judged.items()}
    for family, name in _NETWORK.items():
        size = found.largest(family)
        scope = (
            f"{p.dataset}, {p.conv_train:,} training samples, {about}, {name.format(size)}, after "
            f"{words.some(p.conv_measure_at[-1], 'epoch')} of SGD, raw"
        )
        bridge = over_seeds(found.end(family, size).bridge_ratio)
        judged[family] = (
            claims.not_tested("C5", why, scope=scope)
            if (why := found.untested(family, [size]))
            else claims.random_walk_bridge(bridge, scope=scope)
        ).of_figure(_FIGURE[family])
    return {"C1": label_noise.verdict(p, found.noisy), **judged}


FIGURES = {
    "learning": partial(during, family="mlp", of=_LEARNING),
    "gap": partial(during, family="mlp", of=_GAPS, log="y"),
    "normalized": partial(during, family="mlp", of=_NORMALIZED, log="y"),
    "deflection": partial(during, family="mlp", of=_DEFLECTION),
    "vgg": partial(during, family="vgg", of=_GAPS + _NORMALIZED, log="y"),
    "vgg-learning": partial(during, family="vgg", of=_LEARNING + _DEFLECTION),
    "resnet": partial(during, family="resnet", of=_GAPS + _NORMALIZED, log="y"),
    "resnet-learning": partial(during, family="resnet", of=_LEARNING + _DEFLECTION),
    "path": lambda found: single_runs.path_figure(found.paths),
    "error": lambda found: label_noise.figure(found.noisy),
}
TABLES = {"perceptrons": perceptrons_table, "convolutional": convolutional_table}
