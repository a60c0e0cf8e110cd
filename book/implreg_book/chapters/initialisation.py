"""Chapter "Initialisation": the same networks from the usual start and from three others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import pandas as pd

from implreg.datasets import load
from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, MUTED, number
from implreg.training import SGD
from implreg_book import figures
from implreg_book.chapters import protocols
from implreg_book.chapters.missing import mean, nothing_to_draw
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Outcome, Verdict
from implreg_book.evidence.statistics import NONE, Estimate, ratio
from implreg_book.experiments import initialisation as experiment
from implreg_book.figures.axes import letter_panels
from implreg_book.parameters.initialisation import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of

TESTED = {
    "deflection": "deflection",
    "normalized_deflection": "normalised deflection",
    "test_error": "test error",
}
_SHOWN = TESTED | {"straightness": "fluctuation / edge margin"}
_GLUED = ("deflection", "normalised", "error", "bends")
_MEASURED = (*TESTED, "fluctuation", "edge_margin", "epochs", "train_loss", "train_error")
_SAID = {"undecided": "undecided", "one run": "undecided, with one seed,", "no run": "not tested"}
_NOBODY = "no network reached the training loss"


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        table: one row for each network and target loss, with `straightness`, the fluctuation over
            the edge margin where that is positive; what was not reached is missing.
        paths: outputs along the first pair of the first seed, by start.
        labels: of the two ends of that pair.
        test_samples: how many there are.
    """

    p: Parameters
    table: pd.DataFrame
    paths: pd.DataFrame
    labels: tuple[int, int]
    test_samples: int

    @property
    def others(self) -> list[str]:
        """All starts but the random one, by their names on the page."""
        return [scaled(self.p), *experiment.STARTS[2:]]

    @property
    def last(self) -> pd.DataFrame:
        """The networks at the last target loss, whether they reached it or not."""
        return self.table[self.table.target_loss == self.p.target_losses[-1]]

    @property
    def ended(self) -> pd.DataFrame:
        """Those that reached it."""
        return self.last[self.last.reached]

    def ratios(self, quantity: str, loss: float | None = None) -> dict[str, Estimate]:
        """By start, a quantity over that of the random start of the same seed."""
        at = self.table[self.table.target_loss == (loss or self.p.target_losses[-1])]
        wide = at.pivot(index="seed", columns="start", values=quantity)
        return {start: _ratio(wide[start], wide["random"]) for start in self.others}

    def change(self, starts: Sequence[str], column: str = "deflection") -> Estimate:
        """A deflection at the end over the same before training (means over the starts)."""
        rows = self.ended[self.ended.start.isin(starts)]
        means = rows.groupby("seed")[[column, f"start_{column}"]].mean()
        return _ratio(means[column], means[f"start_{column}"])

    def mean(self, start: str, column: str) -> Estimate:
        """Of the networks of a start that arrived."""
        return mean(self.ended[self.ended.start == start][column])


def scaled(p: Parameters) -> str:
    """The name of the start whose hidden weights are multiplied."""
    return "large scale" if p.scale > 1 else "small scale" if p.scale < 1 else "scale 1"


def _ratio(above: pd.Series, below: pd.Series) -> Estimate:
    """The ratio over seeds that have both; none if a number is 0, as that has no ratio."""
    both = pd.concat([above, below], axis=1).dropna()
    usable = len(both) and (both > 0).all(axis=None)
    return ratio(both.iloc[:, 0], both.iloc[:, 1]) if usable else NONE


def grids(p: Parameters) -> Grids:
    """One network for each start and seed, the longest runs first, and the paths of one seed."""
    settings = SGD(p.learning_rate, epochs=p.epochs, batch=p.batch, warmup_epochs=p.warmup_epochs)
    configs = [
        experiment.Config(
            p.dataset, p.train, p.width, seed, start, p.target_losses, settings, scale=p.scale,
            copies=p.copies, zeroed=p.zeroed, pairs=p.pairs, kind=p.kind,
        )
        for start in reversed(experiment.STARTS)
        for seed in range(p.seeds)
    ]  # fmt: skip
    return {
        "networks": Grid(experiment.run, configs, "networks"),
        "paths": Grid(experiment.first_path, [c for c in configs if not c.seed], "paths"),
    }


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    sgd = grids(p)["networks"].configs[0].sgd  # type: ignore[attr-defined]
    others = (scaled(p), *experiment.STARTS[2:])
    return protocols.of_targets(p, sgd, [p.width], p.seeds, others, p.kind)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    runs = grids(p)
    tables = tables_of(runs)
    table, paths = (tables[name].replace({"start": {"large scale": scaled(p)}}) for name in runs)
    # Where no network reached any loss, the runs have none of these columns.
    table = table.reindex(columns=[*table, *(name for name in _MEASURED if name not in table)])
    table["straightness"] = (table.fluctuation / table.edge_margin).where(table.edge_margin > 0)
    starts = ("random", scaled(p), *experiment.STARTS[2:])
    table = pd.concat([table[table.start == start] for start in starts])
    _, ends = runs["paths"].configs[0].drawn()  # type: ignore[attr-defined]
    labels = int(ends.y0[0]), int(ends.y1[0])
    return Found(p, table, paths, labels, len(load(p.dataset, train=p.train).y_test))


# ---------------------------------------------------------------- words


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, last, verdict = found.p, found.last, verdicts(found)["C7"]
    random = found.mean("random", "test_error").map(lambda x: 100 * x)
    return {
        "answer": _answer(verdict),
        "dataset": p.dataset,
        "networks": len(last),
        "seeds": f"{p.seeds} seed{'s' * (p.seeds > 1)}",
        "scaled": scaled(p),
        "scale": f"{p.scale:g}",
        "copies": f"{p.copies} {'copies' if p.copies > 1 else 'copy'}",
        "zeroed": f"{100 * p.zeroed:g}",
        "target": f"{p.target_losses[-1]:g}",
        "targets": ", ".join(f"{loss:g}" for loss in p.target_losses),
        "lost": f"{len(last) - last.reached.sum()} of {len(last)}",
        "test-samples": f"{found.test_samples:,}",
        "random-error": _told(random, ".1f"),
        "straightness": _told(found.mean("random", "straightness"), ".3f"),
        "own-yardstick": _told(
            found.ratios("normalized_deflection")[scaled(p)].map(lambda x: p.scale * x)
        ),
        "verdict": str(verdict.outcome),
        "randomness": f": randomness as such is not enough, because the start “{scaled(p)}” is "
        "random too" * (verdict.outcome is Outcome.SUPPORTED),
        **{
            f"{name}-{key}": _told(found.ratios(column)[start])
            for name, column in zip(_GLUED, _SHOWN, strict=True)
            for key, start in zip(("large", "labels", "adversarial"), found.others, strict=True)
        },
        **_paths(found),
        **_comparison(found),
    }  # fmt: skip


def _told(x: Estimate, spec: str = ".2f") -> str:
    return f"{x:{spec}}" if x.n else "(not tested)"


def _answer(verdict: Verdict) -> str:
    return {
        Outcome.SUPPORTED: "The start matters, but randomness alone is not the point.",
        Outcome.NOT_SUPPORTED: "Not the usual randomness: another start ends with a smaller "
        "deflection or error.",
        Outcome.NOT_TESTED: f"This run does not test it: {verdict.details}.",
    }.get(verdict.outcome, "These networks do not decide it.")


def _where(ratios: Mapping[str, Estimate]) -> str:
    """From which starts a quantity is larger, smaller, the same or undecided."""
    by: dict[str, list[str]] = {}
    for start, x in ratios.items():
        word = rules.in_words(x)
        by.setdefault(_SAID.get(word, word), []).append(start)
    if len(by) == 1:
        (word,) = by
        return word if word == _SAID["no run"] else f"{word} from every other start"
    return ", ".join(f"{word} from {listed(starts)}" for word, starts in by.items())


def _paths(found: Found) -> dict[str, object]:
    """How the drawn paths end, and how far from their chords they go."""
    right, off = 0, dict[str, float]()
    for start, lines in found.paths.groupby("start"):
        ends = [lines[lines.t == t].set_index("output").value.idxmax() for t in (0, 1)]
        right += tuple(ends) == found.labels
        off[str(start)] = _distance(lines[lines.output == lines.label])
    far = [
        f"{distance:.3g} ({start})" for start, distance in sorted(off.items(), key=itemgetter(1))
    ]
    return {
        "right": words.how_many(right, len(experiment.STARTS), "networks"),
        "chords": f"On this path the largest distance from the chord is {listed(far)}."
        if far
        else "No path is drawn, as no network arrived.",
    }


def _distance(line: pd.DataFrame) -> float:
    """The largest distance of an output from its chord."""
    first, end = line.value.iloc[0], line.value.iloc[-1]
    return float((line.value - first - (end - first) * line.t).abs().max())


def _comparison(found: Found) -> dict[str, object]:
    """How the starts compare at the last loss, with what they were before, and at other losses."""
    others = found.change(found.others)
    last, every = found.p.target_losses[-1:], found.p.target_losses
    shares = [found.mean(start, "straightness") for start in ("random", *found.others)]
    straight, tested = sum(map(rules.smaller, shares)), sum(bool(x.n) for x in shares)
    blind = straight == len(shares) and any(map(rules.larger, found.ratios("test_error").values()))
    return {
        "change-random": _told(found.change(["random"])),
        "change-others": _told(others, ".3f"),
        "normalised-change-random": _told(found.change(["random"], "normalized_deflection")),
        "normalised-change-others": _told(found.change(found.others, "normalized_deflection")),
        "taken": words.by_ratio(
            others,
            same="training takes no deflection away",
            larger="training adds to the deflection",
            smaller="training takes some deflection away",
            unclear="whether training takes deflection away stays open",
        ),
        "larger": f"the deflection is {_by_loss(found, 'deflection', last)}; normalised, it is "
        f"{_by_loss(found, 'normalized_deflection', last)}",
        "straight": f"Its interval lies below 1, as claim C6 wants it, from {straight} of the "
        f"{tested} starts of which it is known."
        + " So that test alone does not tell a good start from a bad one."
        * blind,
        "by-loss": f"the deflection is {_by_loss(found, 'deflection', every)}; the test error is "
        f"{_by_loss(found, 'test_error', every)}",
    }


def _by_loss(found: Found, quantity: str, losses: Sequence[float]) -> str:
    """From which starts a quantity is larger than from the random one, at some losses."""
    by: dict[str, list[str]] = {}
    for loss in losses:
        by.setdefault(_where(found.ratios(quantity, loss)), []).append(f"{loss:g}")
    if len(by) == 1:
        return f"{next(iter(by))}{', at every loss' * (len(losses) > 1)}"
    return "; ".join(f"at a loss of {listed(at)}, {where}" for where, at in by.items())


# ---------------------------------------------------------------- figures


def paths_figure(found: Found) -> Figure:
    """Outputs along one path from each start."""
    starts = [s for s in ("random", *found.others) if s in found.paths.start.to_numpy()]
    if not starts:
        return nothing_to_draw(_NOBODY)
    canvas, panels = letter_panels(len(starts), height=2.5, sharey=True)
    alt = []
    with style():
        for panel, start, letter in zip(panels, starts, "abcd", strict=False):
            panel.set_title(f"{letter}  {start}", loc="left")
            panel.set_xlabel("position t on the path")
            for output, line in found.paths[found.paths.start == start].groupby("output"):
                if output != line.label.iloc[0]:
                    panel.plot(line.t, line.value, color=MUTED, alpha=0.45, linewidth=1)
                    continue
                ends = line.iloc[[0, -1]]
                panel.plot(ends.t, ends.value, "--", color=MUTED, zorder=3)
                panel.plot(line.t, line.value, color=CATEGORIES[0], linewidth=2.4, zorder=4)
                first, end = map(number, ends.value)
                off = number(_distance(line))
                alt.append(f"{start}: from {first} to {end}, at most {off} from its chord")
        for panel in panels[::2]:
            panel.set_ylabel("output φ(t)")
    return show(
        canvas,
        alt="A panel for each start, with the outputs along one path from t = 0 to 1. The output "
        f"of the class at t = 0 over its dashed chord, {'; '.join(alt)}. The others are thin "
        "lines.",
    )


def deflection_figure(found: Found) -> Figure:
    """The deflection from each start, raw and normalised."""
    return _compare(found, {"deflection": r"gradient deflection $\delta$",
                            "normalized_deflection": "normalised deflection"})  # fmt: skip


def error_figure(found: Found) -> Figure:
    """Test error, and fluctuation over edge margin, from each start."""
    return _compare(found, {"test_error": "test error",
                            "straightness": "fluctuation / edge margin"})  # fmt: skip


def _compare(found: Found, columns: dict[str, str]) -> Figure:
    rows = found.ended.dropna(subset=list(columns))
    if rows.empty:
        return nothing_to_draw(_NOBODY)
    return figures.plot_compare(rows, "start", list(columns), ylabel=list(columns.values()))


def losses_figure(found: Found) -> Figure:
    """Deflection and test error against the training loss."""
    reached = found.table[found.table.reached]
    if reached.empty:
        return nothing_to_draw(_NOBODY)
    return figures.plot_against(
        reached,
        "target_loss",
        ["deflection", "test_error"],
        by="start",
        log="x",
        xlabel="training loss (at most)",
        ylabel=[r"gradient deflection $\delta$", "test error"],
    )


# ---------------------------------------------------------------- tables and verdicts


def arrivals_table(found: Found) -> pd.DataFrame:
    """How many networks of each start arrived, when, and how well they fit."""
    by = found.last.groupby("start", sort=False)
    counts = by[["reached", "diverged"]].sum().astype(int)
    counts.insert(0, "runs", by.size())
    means = by[["epochs", "train_loss", "train_error"]].mean() * [1, 1, 100]
    for name, column, spec in zip(
        ("epochs", "loss", "error, %"), means, (".0f", ".4f", ".2f"), strict=True
    ):
        counts[name] = means[column].map(lambda x, f=spec: "–" if math.isnan(x) else f"{x:{f}}")
    return counts.rename_axis(index=None, columns="start")


def start_end_table(found: Found) -> pd.DataFrame:
    """The deflections before and after training."""
    starts = ("random", *found.others)
    columns = {}
    for label, column in (("raw", "deflection"), ("normalised", "normalized_deflection")):
        columns[label, "before"] = [found.mean(s, f"start_{column}") for s in starts]
        columns[label, "after"] = [found.mean(s, column) for s in starts]
        columns[label, "after / before"] = [found.change([s], column) for s in starts]
    table = pd.DataFrame(columns, index=starts).map(lambda x: f"{x:.3f}")
    return table.rename_axis(columns=["deflection, mean [95 % interval]", ""])


def ratios_table(found: Found) -> pd.DataFrame:
    """All ratios to the random start."""
    table = pd.DataFrame({name: found.ratios(column) for column, name in _SHOWN.items()})
    return table.map(lambda x: f"{x:.2f}").rename_axis(
        columns="ratio to the random start, mean [95 % interval]"
    )


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    p, ended = found.p, found.ended
    scope = (
        f"{p.dataset}, {p.train:,} training samples, {p.kind}-class pairs, one hidden layer of "
        f"{p.width:,} units, plain SGD to training loss {p.target_losses[-1]:g}"
    )
    ratios = {name: found.ratios(column) for column, name in TESTED.items()}
    lacking = [s for s in found.others if not all(of[s].n for of in ratios.values())]
    c7 = claims.other_starts(ratios, scope=scope)
    straight = {s: found.mean(s, "straightness") for s in ("random", *found.others)}
    c6 = claims.almost_straight(
        straight["random"], others={s: straight[s] for s in found.others if straight[s].n},
        scope=scope,
    )  # fmt: skip
    untrained = "the networks have not learned the training samples"
    why = "" if rules.trained(ended.train_error) else untrained if len(ended) else _NOBODY
    if why or (lacking and c7.outcome is not Outcome.NOT_SUPPORTED):
        open_ = why or f"there is no comparison for {listed(lacking)}"
        c7 = claims.not_tested("C7", open_, scope=scope)
    if why or not straight["random"].n:
        open_ = why or "from the random start none arrived with its samples classified rightly"
        c6 = claims.not_tested("C6", open_, scope=scope)
    return {"C7": c7, "C6": c6}


FIGURES = {
    "paths": paths_figure,
    "deflection": deflection_figure,
    "error": error_figure,
    "losses": losses_figure,
}
TABLES = {"arrivals": arrivals_table, "start-end": start_end_table, "ratios": ratios_table}
