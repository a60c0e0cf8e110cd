"""Chapter "Architecture": what skip connections and batch norm do."""

import math

import pandas as pd

from implreg_book.chapters import same_loss
from implreg_book.chapters.architecture_found import DEFLECTION, ERROR, MIDDLE, Found
from implreg_book.chapters.same_loss import Ratios, both, cell, shown, times
from implreg_book.evidence import rules
from implreg_book.evidence.rules import Outcome
from implreg_book.experiments import architecture
from implreg_book.parameters.schema import listed

LOOKED_AT = {"loss": "loss", "deflection": DEFLECTION, "test_error": ERROR}
STATISTICS = ("all samples", "one batch")
NORMED = ("norm", "deep_norm")
MODE_TESTS = len(NORMED) * len(LOOKED_AT) * len(STATISTICS)

# Skip connections.

_SIZE = {
    Outcome.SUPPORTED: "So the bend of a network with skip connections depends {}on the size of "
    "its start, which one can choose.",
    Outcome.NOT_SUPPORTED: "So the size of the start does not explain the bend of a network with "
    "skip connections.",
    Outcome.UNDECIDED: "Whether the size of the start explains the bend of a network with skip "
    "connections is left open by the test.",
    Outcome.NOT_TESTED: "Whether the size of the start explains the bend of a network with skip "
    "connections is not tested here.",
}


def skip_outcome(found: Found) -> Outcome:
    """Hypothesis 3 for skip connections."""
    ratio = found.ratio(DEFLECTION, "skip", "plain")
    return same_loss.judged(found.trained, [(rules.falls, ratio)])


def small_outcome(found: Found) -> Outcome:
    """Hypothesis 4."""
    ratio = found.ratio(DEFLECTION, "small", "skip")
    return same_loss.judged(found.trained, [(rules.falls, ratio)])


def skip_table(found: Found) -> pd.DataFrame:
    """Deep networks, before and after training."""
    keys = found.names.keys
    before = {
        "outputs before": (found.means("output_size", before=True), ".2f"),
        "deflection before": (found.means("deflection", before=True), ".3f"),
        "by theory": (found.means("theory_deflection", before=True), ".3f"),
        "deflection after": (found.means("deflection"), ".3f"),
    }
    compared = found.families[keys["plain"]]
    rows = {
        name: {
            of: "no run" if math.isnan(means[name]) else f"{means[name]:{digits}}"
            for of, (means, digits) in before.items()
        }
        | {
            f"{of}, over plain": cell(ratios[name]) if name in ratios else ""
            for of, ratios in compared.items()
            if of != MIDDLE
        }
        for name in (keys["plain"], *compared[DEFLECTION])
    }
    return pd.DataFrame(rows).T


def skip_words(found: Found) -> dict[str, object]:
    """What the section on skip connections says."""
    keys = found.names.keys
    size = found.means("output_size", before=True)
    theory = found.means("theory_deflection", before=True)
    factors = found.means("deflection") / found.means("deflection", before=True)
    parts = {
        "skip": "the deflection with skip connections by {}",
        "plain": "that of the plain network by {}",
        "small": "that from the small start by {}",
    }
    grown = [
        text.format(f"{factors[keys[key]]:.1f}")
        for key, text in parts.items()
        if math.isfinite(factors[keys[key]])
    ]
    much = rules.smaller(found.ratio(DEFLECTION, "small", "skip"), 1 / rules.SAME)
    plain, skipped = size[keys["plain"]], size[keys["skip"]]
    said: dict[str, object] = {
        "size-skip": f"{skipped / plain:.1f} times" if plain else "not to be compared with",
        "theory-skip": f"{theory[keys['skip']] / theory[keys['plain']]:.2f}",
        "theory-small": f"{theory[keys['small']] / theory[keys['plain']]:.2f}",
        "grown": f"Training has multiplied {listed(grown)}." if grown else "",
        "size-says": _SIZE[small_outcome(found)].format("much " * much),
        "outcome-3a": str(skip_outcome(found)),
        "outcome-4": str(small_outcome(found)),
    }
    for name, ratio in {
        "deflection-skip-plain": found.ratio(DEFLECTION, "skip", "plain"),
        "deflection-small-plain": found.ratio(DEFLECTION, "small", "plain"),
        "deflection-small-skipping": found.ratio(DEFLECTION, "small", "skip"),
        "error-small-skipping": found.ratio(ERROR, "small", "skip"),
    }.items():
        said |= both(name, ratio)
    return said


# Batch norm.


def norm_outcome(found: Found) -> Outcome:
    """Hypothesis 3 for batch norm."""
    ratios = found.ratio(DEFLECTION, "norm"), found.ratio(DEFLECTION, "deep_norm", "plain")
    return same_loss.judged(found.trained, [(rules.falls, x) for x in ratios])


def _modes(found: Found, key: str) -> Ratios:
    """Ratios of a kind of network to itself with running averages, by quantity and statistics."""
    rows = found.modes[found.modes.condition == found.names.keys[key]]
    each = rows.groupby(["statistics", "seed"], sort=False)[[*LOOKED_AT, "reached"]].mean()
    each = each.reset_index().rename(columns={"statistics": "condition"})
    each["reached"] = each.reached == 1
    return same_loss.ratios(each, LOOKED_AT, STATISTICS, "running", tests=MODE_TESTS)


def norm_table(found: Found) -> pd.DataFrame:
    """What other constants in the batch norm would change."""
    rows = {
        (found.names.keys[key], what): {of: shown(x[what]) for of, x in _modes(found, key).items()}
        for key in NORMED
        for what in STATISTICS
    }
    return pd.DataFrame(rows).T.rename_axis(
        index=["network", "statistics"], columns="ratio to running averages"
    )


def norm_words(found: Found) -> dict[str, object]:
    """What the section on batch norm says."""
    p = found.p
    batch = min(p.batch, p.train)
    ratios = {key: _modes(found, key) for key in NORMED}
    bends = [(rules.equal, of[DEFLECTION]["one batch"]) for of in ratios.values()]
    said: dict[str, object] = {
        "batch": f"{batch:,}",
        "batches": min(architecture.BATCHES, p.train // batch),
        "mode-tests": MODE_TESTS,
        "outcome-3b": str(norm_outcome(found)),
        "modes-matter": {
            Outcome.SUPPORTED: "does not matter",
            Outcome.NOT_SUPPORTED: "matters",
            Outcome.UNDECIDED: "may matter (the test leaves it open)",
        }.get(same_loss.judged(found.trained, bends), "is not tested"),
    }
    for short, of in zip(("one", "deep"), ratios.values(), strict=True):
        said |= both(f"bend-{short}", of[DEFLECTION]["one batch"])
        said |= {f"test-{short}": times(of[ERROR]["one batch"])}
        said |= {f"loss-{short}": times(of["loss"]["one batch"])}
    for short, key, base in (("norm", "norm", None), ("deep-norm-plain", "deep_norm", "plain")):
        for what, quantity in (("deflection", DEFLECTION), ("error", ERROR)):
            said |= both(f"{what}-{short}", found.ratio(quantity, key, base))
    return said
