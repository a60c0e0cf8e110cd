"""Chapter "Architecture": which networks are straight, and whether straighter is better."""

import math

from implreg_book.chapters import architecture_changes as changed
from implreg_book.chapters import architecture_kinds as kinds
from implreg_book.chapters import architecture_layers as layers
from implreg_book.chapters import protocols, same_loss
from implreg_book.chapters.architecture_found import (
    DEFLECTION,
    ERROR,
    REFERENCE,
    Found,
    changes,
    grids,
)
from implreg_book.chapters.compared import reference_of
from implreg_book.chapters.same_loss import shown, times
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.rules import in_words
from implreg_book.parameters.architecture import Parameters
from implreg_book.parameters.common import DATASETS
from implreg_book.parameters.schema import listed
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import tables_of

NEAR = 0.25  # within which factors count as about the same
_COUNTS = ("one layer", "two layers", "three layers", "four layers", "five layers", "six layers")


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return protocols.of_ablation(grids(p)["table"].configs)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    changed_by, tables = changes(p), tables_of(grids(p))
    narrow, small = list(changed_by.values())[-1], changed_by[f"depth {p.deep}, skip, small start"]
    table = same_loss.completed(tables["table"])
    table["bridge_ratio"] = table.mid_path_deflection / table.deflection
    start = tables["start"]
    for prefix in ("", "theory_"):
        start[f"{prefix}bridge_ratio"] = (
            start[f"{prefix}mid_path_deflection"] / start[f"{prefix}deflection"]
        )
    return Found(
        p,
        table,
        start,
        same_loss.completed(tables["modes"], list(layers.LOOKED_AT)),
        units=narrow["network"]["widths"][0],
        scale=small["start"]["scale"],
        test_samples=len(reference_of(p).data().y_test),
    )


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    return (
        _setting(found)
        | _opening(found)
        | _comparisons(found)
        | changed.depth_words(found)
        | changed.leak_words(found)
        | layers.skip_words(found)
        | layers.norm_words(found)
    )


def _setting(found: Found) -> dict[str, object]:
    """What was run."""
    p, sizes = found.p, [found.size("parameters", key) for key in ("deepest", "plain")]
    many = found.size("parameters")
    alike = max(many, *sizes) <= rules.SAME * min(many, *sizes)
    shape = "3×3 convolutions" if DATASETS[p.dataset].images else "convolutions of width 3"
    return {
        "dataset": p.dataset,
        "width": p.width,
        "networks": f"{len(found.last):,}",
        "conditions": len(found.names.order) + 1,
        "depths": max(p.depths),
        "deeps": p.deep,
        "leak": f"{max(p.leaks):g}",
        "leaks": listed([f"{leak:g}" for leak in p.leaks]),
        "root": f"{math.sqrt(max(p.depths)):.2f}",
        "scale": f"{found.scale:.2f}",
        "convolutions": f"{_COUNTS[len(p.channels) - 1]} of {shape} with "
        f"{listed([str(n) for n in p.channels])} channels",
        "few": f"{found.size('parameters', 'conv'):,}",
        "many": f"{many:,}",
        "narrow": found.units,
        "conv-units": f"{found.size('units', 'conv'):,}",
        "as-many": "and as many parameters"
        if alike
        else f"and {sizes[0]:,} parameters instead of {many:,}",
        "have": f"have about {many:,} parameters"
        if alike
        else f"have from {min(many, *sizes):,} to {max(many, *sizes):,} parameters, as near to "
        "one another as whole numbers of units allow",
        "target": f"{found.target:g}",
        "tests": found.tests,
        "same": rules.WITHIN,
        "seen": "" if p.changed() else "That seed is among those tested.",
        "test-samples": f"{found.test_samples:,}",
    }


def _opening(found: Found) -> dict[str, object]:
    """What the page says of all kinds: how many arrived, what bends and what training does."""
    last, reached, p = found.last, found.reached, found.p
    deflected = found.families[REFERENCE][DEFLECTION]
    differ = sum(in_words(x) in ("larger", "smaller") for x in deflected.values())
    much = "much " * (2 * differ > len(deflected))
    kept = same_loss.correlated(reached, "deflection_before", "deflection")
    foretold = words.by_sign(
        kept,
        above=", and to a good part it can be foretold before training",
        below=", and it is rather the other way round before training",
        unclear="; whether it can be foretold before training, they leave open",
    )
    answer = f"How straight a trained network runs depends {much}on its architecture{foretold}."
    if not differ:
        answer = "Whether architecture decides how straight a trained network runs, these "
        answer += "networks leave open."
    values = [
        [1.0, *(x.value for x in found.families[REFERENCE][of].values() if x.n)]
        for of in (DEFLECTION, ERROR)
    ]
    wide, narrow = (max(x) / min(x) for x in values)
    others = "The others show how the ratios move as training goes on; their intervals are as wide,"
    return {
        "answer": answer if found.trained else "No hypothesis of this page is tested in this run.",
        "arrived": ""
        if reached.shape[0] == len(last)
        else f" ({words.how_many(len(reached), len(last), 'networks')} got there)",
        "arrival": same_loss.arrival(last, found.target, words.some(p.epochs, "epoch")),
        "reservation": same_loss.reservation(kinds.outcomes(found).values(), p.seeds),
        "deflection-deepest": times(deflected[found.names.keys["deepest"]]),
        "deflection-leak": times(deflected[found.names.keys["leak"]]),
        "ranges": f"The mean deflections of the kinds lie within a factor of {wide:.1f}, the test "
        f"errors within one of {narrow:.1f}."
        if len(values[0]) > 1
        else "",
        "other-losses": f"{others} but are not among the {found.tests}."
        if len(p.target_losses) > 1
        else "No other was asked for.",
        "together": same_loss.correlation(kept),
        **_growth(found),
    }


def _growth(found: Found) -> dict[str, object]:
    """By what training multiplies the deflection of the kinds."""
    factor = kinds.factors(found)
    relative = (factor / factor[REFERENCE]).dropna()
    near = relative[(relative - 1).abs() <= NEAR].index
    far = [f"{name} ({factor[name]:.1f})" for name in relative.index.difference(near, sort=False)]
    if len(relative) < 2:
        return {"near": "", "factors": "Of too few kinds it is known what training multiplies."}
    many = words.how_many(len(near), len(relative), "kinds")
    return {
        "near": f"In {many} training multiplies the deflection by about the same factor.",
        "factors": f"Training multiplies the deflection of the reference by "
        f"{factor[REFERENCE]:.1f}, and that of {many}, the reference among "
        f"them, by the same within {100 * NEAR:g} %. The others, with their factors: "
        f"{'; '.join(far) or 'none'}.",
    }


def _comparisons(found: Found) -> dict[str, object]:
    """Whether straighter is better."""
    opposed = kinds.against(found)
    every = [x for ratios in found.families.values() for x in ratios[DEFLECTION].values()]
    compared = sum(x.n > 1 for x in every)
    examples = [
        f"{what} the deflection is {shown(bend)} and the test error {shown(error)} times as large "
        f"({in_words(error)})."
        for what, key, base in (
            (f"With {max(found.p.depths)} layers", "deepest", None),
            (f"With a leak of {max(found.p.leaks):g}", "leak", None),
            (f"With convolutions, compared with {found.units} units,", "conv", "narrow"),
        )
        if (bend := found.ratio(DEFLECTION, key, base)).n
        and (error := found.ratio(ERROR, key, base)).n
    ]
    count = f"{len(opposed)} of {compared}"
    return {
        "at-target": same_loss.correlation(kinds.at_target(found)),
        "against-count": f"in {count} comparisons of two kinds the one that bends more makes fewer "
        "errors, with both intervals"
        if compared
        else "two kinds cannot be compared with intervals",
        "against": f"{count}: {'; '.join(opposed) or 'none'}" if compared else "none of none",
        "examples": " ".join(examples),
        **same_loss.both("deflection-conv", found.ratio(DEFLECTION, "conv")),
        **same_loss.both("deflection-conv-few", found.ratio(DEFLECTION, "conv", "narrow")),
        **same_loss.both("error-conv", found.ratio(ERROR, "conv")),
        **same_loss.both("error-conv-few", found.ratio(ERROR, "conv", "narrow")),
        "outcome-5": str(list(kinds.outcomes(found).values())[-1]),
    }


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    p, told = found.p, kinds.correlations(found)
    scope = (
        f"{p.dataset}, {p.train:,} training samples, {len(found.names.order) + 1} architectures, "
        f"plain SGD, training losses {', '.join(f'{loss:g}' for loss in p.target_losses)}"
    )
    if not rules.trained(found.table[found.table.reached].train_error):
        why = "no network reached a loss, or those that did have learned too little"
        return {"C8": claims.not_tested("C8", why, scope=scope)}
    if not all(x.n for x in told.values()):
        why = "too few or too similar networks for a rank correlation"
        return {"C8": claims.not_tested("C8", why, scope=scope)}
    return {"C8": claims.tracks_generalisation(told, scope=scope)}


FIGURES = {
    "ratios": kinds.ratio_figure,
    "depth": changed.depth_figure,
    "growth": kinds.growth_figure,
    "error": kinds.error_figure,
}
TABLES = {
    "arrivals": kinds.arrivals,
    "ratios": kinds.ratio_table,
    "losses": kinds.loss_table,
    "depth": changed.depth_table,
    "leaks": changed.leak_table,
    "skips": layers.skip_table,
    "norms": layers.norm_table,
    "convolutions": kinds.convolution_table,
    "growth": kinds.growth_table,
    "correlations": kinds.correlation_table,
    "outcomes": kinds.outcome_table,
}
