"""Chapter "What the released program measures": its estimates beside the exact measures."""

import numpy as np

from implreg_book.chapters.released_found import (
    AFTER,
    BEFORE,
    COMPARED,
    MEASURES,
    Found,
    cases,
    grids,
    measure,
    program_of,
    protocol,
    resolved,
)
from implreg_book.chapters.released_shown import (
    after_figure,
    agreements_table,
    before_figure,
    figures_table,
    list_table,
    merging_figure,
    traits_table,
)
from implreg_book.evidence import rules, words
from implreg_book.evidence.claims import Outcome, Verdict
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments.released import EXACT, PROGRAMS, SAMPLED
from implreg_book.parameters.schema import listed

__all__ = [
    "FIGURES", "TABLES", "Found", "after_figure", "agreements_table", "before_figure",
    "figures_table", "grids", "list_table", "measure", "merging_figure", "numbers", "protocol",
    "traits_table", "verdicts",
]  # fmt: skip


# ---------------------------------------------------------------- words


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, widest = found.p, max(found.p.widths)
    off = {n: found.effect(PROGRAMS, "bridge_deviation_over_exact", n, AFTER) for n in p.widths}
    most = max(p.widths, key=lambda n: abs(np.log(off[n].value)) if off[n].n else -1.0)
    left = {
        name: found.effect(SAMPLED, f"{name}_deviation_over_exact", resolved(p), ("after", "raw"))
        for name in ("gap", "bridge")
    }
    share = found.fine.pivot_table(index="seed", columns="points", values="merged_share")
    ends = share.iloc[:, [0, -1]].dropna() if len(share.columns) > 1 else share.iloc[:0]
    return {
        "networks": found.networks,
        "diverged": found.diverged,
        "epochs": words.some(p.epochs, "epoch"),
        "seeds": p.seeds,
        "conv-seeds": p.conv_seeds,
        "within": rules.WITHIN,
        "widest": f"{widest:,}",
        "resolved": f"{resolved(p):,}",
        "gap": _told(found.effect(PROGRAMS, "gap_deviation_over_exact", widest, AFTER)),
        "bridges": f"{_told(off[widest])} times"
        + (
            ", no other width is farther off"
            if most == widest
            else f", and {_told(off[most])} times with {most:,}, where it is farthest off"
        ),
        "course": "falls" if len(ends) and (ends.iloc[:, 1] < ends.iloc[:, 0]).all() else "changes",
        "rate": _rates(found.rates),
        "left": " and ".join(f"{_told(x)} ({name})" for name, x in left.items()),
        **_traits(found),
        **_agreements(found),
    }


def _told(x: Estimate) -> str:
    return f"{x:.3f}" if x.n else "(not tested)"


def _rates(rates: dict[str, float]) -> str:
    told = [f"{phase} training {rate:.2f}".replace("-", "−") for phase, rate in rates.items()]
    return ", ".join(told) or "not to be had, as no switches share an interval there"


def _traits(found: Found) -> dict[str, object]:
    """Which traits change which estimate."""
    widths = sorted(found.p.widths)

    def beyond(measure: str) -> str:
        moved = []
        for trait in COMPARED:
            if trait == "seam":  # which perceptrons do not have in the program
                continue
            every = {n: found.trait(trait, measure, n, AFTER) for n in widths}
            at = [f"{n:,}" for n, x in every.items() if rules.equal(x) is Outcome.NOT_SUPPORTED]
            moved += [f"the {trait} at {listed(at)} units"] if at else []
        return listed(moved) or "no trait at any width"

    rows = found.by_trait(AFTER)
    single = (rows[rows.trait == "index"].bridge_deviation - 1).abs()
    before = [found.trait("index", "bridge_deviation", n, BEFORE) for n in widths]
    seam = [
        found.trait("seam", "gap_deviation", found.p.depth, c, "resnet") for c in (BEFORE, AFTER)
    ]
    batch_norm = [
        found.trait("offsets", name, found.p.depth, AFTER, "resnet") for name in MEASURES[:2]
    ]
    return {
        "gaps-moved": beyond("gap_deviation"),
        "moved": beyond("bridge_deviation"),
        "single": f"{100 * single.median():.0f} %" if len(single) else "(not tested)",
        "index-before": words.how_many(sum(map(rules.same, before)), len(before), "widths"),
        "seam": " before and ".join(map(_told, seam)) + " after training",
        "batch-norm": " and ".join(map(_told, batch_norm)),
    }


def _agreements(found: Found) -> dict[str, object]:
    """Where the two estimates of the program agree, and where the exact ones do."""
    every = cases(found.p)
    program, exact = (
        {
            figure: rules.equal(found.walk(of(family), size, case, family))
            for figure, (size, case, family) in every.items()
        }
        for of in (program_of, lambda _: EXACT)
    )

    def those(one: Outcome, other: Outcome) -> str:
        both = [f for f in every if program[f] is one and exact[f] is other]
        return f"figure {listed(both)}" if both else "no figure"

    agree, apart = Outcome.SUPPORTED, Outcome.NOT_SUPPORTED
    return {
        "agree": words.how_many(sum(x is agree for x in program.values()), len(every), "rows"),
        "agree-exact": words.how_many(sum(x is agree for x in exact.values()), len(every), "rows"),
        "made": those(agree, apart),
        "lost": those(apart, agree),
    }


def verdicts(found: Found) -> dict[str, Verdict]:
    """None: no claim of the ledger is about the program."""
    return {}


FIGURES = {"merging": merging_figure, "after": after_figure, "before": before_figure}
TABLES = {
    "list": list_table,
    "traits": traits_table,
    "figures": figures_table,
    "agreements": agreements_table,
}
