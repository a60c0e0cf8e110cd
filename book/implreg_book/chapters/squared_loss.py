"""Gradient descent on the squared loss, in the chapter on optimisers: the step and the gaps."""

import math
from dataclasses import dataclass

import pandas as pd

from implreg_book.chapters import compared
from implreg_book.evidence import rules, words
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval, ratio
from implreg_book.experiments import after_training
from implreg_book.parameters.optimiser import Parameters
from implreg_book.runs.grids import Grid

_FITTED = 1e-4  # a squared loss below it is that of a network that has converged
_CURVATURE = {
    "sharpness": "sharpness",
    "weighted_variation": "sum of gaps",
    "kernel_bound": "bound by the kernel",
}
_PAIRS = 16


@dataclass(frozen=True)
class Squared:
    """What gradient descent on the squared loss has found.

    Attributes:
        p: the parameters.
        table: one row for each network, see `after_training.stable`.
    """

    p: Parameters
    table: pd.DataFrame

    def converged(self) -> dict[float, pd.DataFrame]:
        """Networks with the squared loss by step, of the steps at which all converge."""
        fine = self.table[self.table.loss < _FITTED].sort_values("seed")
        by_step = {share: fine[fine.step == share] for share in self.p.shares}
        return {s: rows for s, rows in by_step.items() if len(rows) == self.p.squared_seeds}

    def gaps(self, below: float = math.inf) -> Estimate:
        """Sum of gaps at the largest step of `converged` over that at the smallest."""
        steps = [rows for step, rows in self.converged().items() if step <= below]
        if len(steps) < 2:
            return NONE
        ends = pd.DataFrame({i: steps[i].weighted_variation.to_numpy() for i in (0, -1)})
        ends = ends[(ends > 0).all(axis=1)]
        return compared.widened(ratio(ends[-1], ends[0]), 1) if len(ends) else NONE

    def beyond(self) -> bool:
        """Whether all networks converge at two steps or more, one of them beyond the stable one."""
        return self.gaps().n > 0 and max(self.converged()) > 1


def grid(p: Parameters) -> Grid:
    """Networks trained with each step."""
    problem = (p.squared_dataset, p.squared_train, _PAIRS, p.squared_width)
    configs = [
        after_training.Stable(*problem, seed, p.squared_steps, share)
        for share in p.shares
        for seed in range(p.squared_seeds)
    ]
    return Grid(after_training.stable, configs, "networks with the squared loss")


def told(found: Squared) -> dict[str, object]:
    """What the networks with the squared loss say."""
    p, by_step, gaps, stable = found.p, found.converged(), found.gaps(), found.gaps(below=1)
    below = "Of the steps up to the stable one, there are no two at which all networks converge."
    if stable.n:
        below = words.by_ratio(
            stable,
            same=f"Up to the stable step the sum of gaps is the same {rules.WITHIN} for the "
            "smallest and the largest step",
            larger="Up to the stable step the sum of gaps grows with the step",
            smaller="Up to the stable step the sum of gaps already falls as the step grows",
            unclear="Whether the sum of gaps changes up to the stable step stays open",
        )
        below += f" (ratio {stable:.2f})."
    beyond = "There are no two steps at which all networks converge."
    if gaps.n:
        step, rows = max(by_step.items())
        bounds = rows[["step_bound", "kernel_bound"]].mean() / rows.weighted_variation.mean()
        beyond = (
            f"At the largest step at which all networks converge, {step:g} times the stable one, "
            f"the sum of gaps is {gaps:.2f} times that at {min(by_step):g} times the stable one. "
            f"There the bound by the step is {bounds.iloc[0]:,.0f} times the sum of gaps, and the "
            f"bound by the kernel {bounds.iloc[1]:.1f} times."
        )
    answer = words.by_ratio(
        gaps,
        smaller="Large steps do straighten paths where theory says so, with the squared loss",
        larger="Large steps make paths more bent with the squared loss, against the theory",
        same="With the squared loss, where theory says that large steps straighten, they do not",
        unclear="Whether large steps straighten paths with the squared loss stays open",
    )
    if not found.beyond():
        answer = "With the squared loss no step beyond the stable one lets all networks converge"
    return {
        "squared-answer": f"{answer}: {gaps:.2f} times the sum of gaps." if gaps.n else beyond,
        "squared-below": below,
        "squared-beyond": beyond,
        "squared-train": p.squared_train,
        "squared-dataset": p.squared_dataset,
    }


def table(found: Squared) -> pd.DataFrame:
    """How the networks with the squared loss end, by step."""
    rows = []
    for share, part in found.table.groupby("step"):
        fine = part[part.loss < _FITTED]
        means = [mean_interval(fine[c]) for c in _CURVATURE] if len(fine) else [NONE] * 3
        told = [f"{x:.{n}f}" if x.n else "" for x, n in zip(means, (2, 2, 1), strict=True)]
        rows.append(
            {
                "step": f"{share:g}",
                "diverged": f"{int(part.loss.map(math.isinf).sum())} of {len(part)}",
                "converged": f"{len(fine)} of {len(part)}",
                **dict(zip(_CURVATURE.values(), told, strict=True)),
                "bound by the step": f"{fine.step_bound.mean():,.0f}" if len(fine) else "",
            }
        )
    return pd.DataFrame(rows).set_index("step").rename_axis(index=None, columns="step")
