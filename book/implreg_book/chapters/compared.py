"""What the chapters on ablations share: their runs, and conditions beside a reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import pandas as pd

from implreg.figures.display import Figure
from implreg.training import Recipe
from implreg_book import figures
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.evidence import comparisons, rules, words
from implreg_book.evidence.correlation import rank_correlation
from implreg_book.evidence.statistics import NONE, Estimate, ratio, simultaneous
from implreg_book.experiments import ablations
from implreg_book.experiments.ablations import REFERENCE
from implreg_book.experiments.conditions import Conditions
from implreg_book.experiments.variants import Variant
from implreg_book.parameters.common import Ablation
from implreg_book.runs.grids import Grid

ALONE = "there is no comparison, as of no seed both this and the usual network arrived"
NO_NETWORK = "No network has what this figure is about."
_FEWEST = 5
Ratios = dict[str, dict[str, Estimate]]


def reference_of(p: Ablation) -> ablations.Config:
    """The usual network and training, from which each condition differs in one way."""
    recipe = Recipe(p.learning_rate, p.epochs, p.batch, p.warmup_epochs)
    network = Variant(widths=(p.width,))
    return ablations.Config(
        REFERENCE, p.dataset, p.train, p.side, network, recipe, 0, p.target_losses, pairs=p.pairs
    )


def networks(p: Ablation, conditions: Conditions) -> Grid:
    """The reference and all conditions that differ from it, of each seed."""
    usual = reference_of(p)
    others = {n: what for n, what in conditions.items() if ablations.changed(usual, what) != usual}
    return Grid(ablations.run, ablations.grid(usual, others, p.seeds), "networks")


def completed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The table with all columns, also those that no run has, and with fluctuation over margin.

    `straightness` is missing where the edge margin is not positive, and what is infinite is, too.
    """
    missing = [c for c in ("fluctuation", "edge_margin", *columns) if c not in table]
    table = table.assign(**dict.fromkeys(missing, math.nan)).replace(
        [math.inf, -math.inf], math.nan
    )
    return table.assign(
        straightness=table.fluctuation / table.edge_margin.where(table.edge_margin > 0)
    )


@dataclass(frozen=True)
class Compared:
    """Networks under several conditions, at common training losses.

    Attributes:
        p: the parameters.
        table: one row for each network and loss, see `implreg_book.experiments.ablations.run` and
            `completed`.
        quantities: columns that are compared, and what they are called.
    """

    p: Ablation
    table: pd.DataFrame
    quantities: ClassVar[Mapping[str, str]]

    @property
    def conditions(self) -> list[str]:
        """All but the reference."""
        return [name for name in dict.fromkeys(self.table.condition) if name != REFERENCE]

    @property
    def tests(self) -> int:
        """Intervals that hold at once."""
        return len(self.quantities) * len(self.conditions)

    @property
    def last(self) -> pd.DataFrame:
        """All runs, at the last loss."""
        return self.table[self.table.target_loss == self.p.target_losses[-1]]

    @property
    def reached(self) -> pd.DataFrame:
        """The runs that reached the last loss, as they were then."""
        return self.last[self.last.reached]

    def ratios_at(self, loss: float, *, plain: bool = False) -> Ratios:
        """By quantity, by condition, its ratio to the reference; without runs, of n = 0.

        Intervals hold all at once, unless they are to be `plain`.
        """
        columns = list(self.quantities)
        table = self.table.assign(**self.table[columns].where(self.table[columns] > 0))
        there = table[(table.target_loss == loss) & table.reached & (table.condition == REFERENCE)]
        found: Ratios = {}
        for column, name in self.quantities.items():
            found[name] = dict.fromkeys(self.conditions, NONE)
            if there[column].notna().any():
                one = {column: name}
                every = comparisons.ratios_at(table, loss, one, reference=REFERENCE)[name]
                tests = 1 if plain else self.tests
                found[name] = {condition: widened(x, tests) for condition, x in every.items()}
        return found

    @cached_property
    def ratios(self) -> Ratios:
        """The ratios at the last loss."""
        return self.ratios_at(self.p.target_losses[-1])

    def course(self, column: str, names: Sequence[str]) -> tuple[str, str]:
        """How a quantity changes from each condition to the next, at the last loss.

        Returns:
            "rises", "falls", "both", "same" or "open", by the intervals of the steps, which hold
            at once; and how many of the steps do so.
        """
        seeds = self.reached.pivot(index="seed", columns="condition", values=column)
        seeds = seeds.where(seeds > 0).reindex(columns=list(names))
        steps = [seeds[[a, b]].dropna() for a, b in pairwise(names)]
        found = [
            changed(widened(ratio(step.iloc[:, 1], step.iloc[:, 0]), len(steps)))
            for step in steps
            if len(step)
        ]
        up, down, same = (found.count(kind) for kind in ("rises", "falls", "same"))
        kind = "both" if up and down else "rises" if up else "falls" if down else "open"
        kind = "same" if same == len(steps) else kind
        told = f"rises in {up or 'none'} and falls in {down or 'none'} of {len(steps)} steps"
        one = {"same": f"stays the same {rules.WITHIN}", "open": "neither clearly rises nor falls"}
        return kind, told if len(steps) > 1 else one.get(kind, kind)

    def untested(self) -> str:
        """Why nothing can be said of trained networks; "" if it can."""
        usual = self.reached[self.reached.condition == REFERENCE]
        at = f"a training loss of {self.p.target_losses[-1]:g}"
        if usual.empty:
            return f"no network of the reference reached {at}"
        if not rules.trained(usual.train_error):
            wrong = 100 * usual.train_error.mean()
            return f"at {at} the reference gets {wrong:.0f} % of the training samples wrong"
        alone = not any(x.n for of in self.ratios.values() for x in of.values())
        return f"no network but those of the reference reached {at}" if alone else ""

    def arrivals(self, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
        """How many runs of each condition arrived, and means over those that did.

        Args:
            columns: which means: by column, what it is called, and its format.
        """
        rows = self.last.groupby("condition", sort=False).agg(
            runs=("reached", "size"), reached=("reached", "sum"), diverged=("diverged", "sum")
        )
        means = self.reached.groupby("condition")[list(columns)].mean().reindex(rows.index)
        for column, (name, form) in columns.items():
            rows[name] = means[column].map(form.format).where(means[column].notna(), "")
        return rows.rename_axis(index=None)

    def told(self) -> dict[str, object]:
        """What the prose says of the networks and of the runs that did not arrive."""
        p, last = self.p, self.last
        return {
            "dataset": p.dataset,
            "train": f"{p.train:,}",
            "seeds": p.seeds,
            "conditions": len(self.conditions) + 1,
            "tests": self.tests,
            "within": rules.WITHIN,
            "target": f"{p.target_losses[-1]:g}",
            "epochs": f"{p.epochs:,}",
            "lost": f"{int((~last.reached).sum())} of {len(last)} runs",
            "diverged": int(last.diverged.sum()),
        }

    def in_words(self) -> pd.DataFrame:
        """All ratios at the last loss, and what their intervals say."""
        return pd.DataFrame(
            {
                name: {c: f"{x:.2f} {rules.in_words(x) if x.n > 1 else ''}" for c, x in of.items()}
                for name, of in self.ratios.items()
            }
        )

    def by_loss(self, quantity: str, head: str = "") -> pd.DataFrame:
        """Ratios of a quantity at each loss; `head` stands before the losses."""
        return pd.DataFrame(
            {
                f"{head}{loss:g}": {
                    c: f"{x:.2f}" for c, x in self.ratios_at(loss)[quantity].items()
                }
                for loss in self.p.target_losses
            }
        )


def correlation(
    rows: pd.DataFrame, x: str, y: str, *, given: str | None = None, **settings: Any
) -> Estimate:
    """Rank correlation of two columns over the networks that have both; NONE if there is none.

    There is none where a column takes a single value, or `given` leaves nothing of one; nor over
    fewer than `_FEWEST` conditions, of which drawing anew tells nothing.
    """
    used = [x, y, *([given] if given else [])]
    rows = rows.dropna(subset=used)
    ranks = rows[used].rank().corr()
    fixed = given is not None and ranks.loc[given, [x, y]].abs().max() > 1 - 1e-6
    if rows.condition.nunique() < _FEWEST or ranks.isna().any(axis=None) or fixed:
        return NONE
    covariate = rows[given] if given else None
    found = rank_correlation(rows[x], rows[y], rows.condition, given=covariate, **settings)
    return NONE if math.isnan(found.low) else found


def correlated(x: Estimate) -> str:
    """A correlation in the prose."""
    return f"{x:.2f}" if x.n else "not known"


def widened(ratio: Estimate, tests: int) -> Estimate:
    """See `simultaneous`; ends beyond 1/1,000 and 1,000 are told as these.

    The intervals of two seeds can be wider than numbers of a computer reach.
    """
    if ratio.n < 2:
        return ratio
    x = simultaneous(ratio, tests)
    low, high = max(x.low, min(x.value, 1e-3)), min(x.high, max(x.value, 1e3))
    return Estimate(x.value, low, high, x.n)


def changed(x: Estimate) -> str:
    """What a ratio does: "rises", "falls", "same" (within `rules.SAME`) or "open"."""
    return words.by_ratio(x, larger="rises", smaller="falls", same="same", unclear="open")


def times(x: Estimate) -> str:
    """A ratio in the prose."""
    return f"{x:.2f} times as large" if x.n else "unknown"


def compare_figure(rows: pd.DataFrame, columns: Mapping[str, str]) -> Figure:
    """Columns of the networks that have all of them, by condition; says so if there are none."""
    rows = rows.dropna(subset=list(columns))
    if rows.empty:
        return nothing_to_draw(NO_NETWORK)
    return figures.plot_compare(rows, "condition", list(columns), ylabel=list(columns.values()))


def method(p: Ablation) -> str:
    """What the training of the reference is called."""
    return "plain SGD" if p.batch < p.train else "gradient descent"


def training(p: Ablation) -> str:
    """How the reference is trained, in words."""
    warm = f"a linear warm-up of {p.warmup_epochs:,} epochs" if p.warmup_epochs else "no warm-up"
    taken = "all samples in each step" if p.batch >= p.train else f"batches of {p.batch:,}"
    return f"{method(p)} with {warm} and {taken}"


def scope_of(p: Ablation) -> str:
    """Data and networks of a verdict."""
    return (
        f"{p.dataset}, {p.train:,} training samples, same-class pairs, one hidden layer of "
        f"{p.width:,} units"
    )
