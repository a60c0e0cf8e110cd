"""Chapter "Labels and explicit regularisation": does what helps also straighten?"""

from implreg_book.chapters import protocols, same_loss
from implreg_book.chapters import regularisation_conditions as conditions
from implreg_book.chapters import regularisation_mixup as mixup
from implreg_book.chapters.missing import mean
from implreg_book.chapters.regularisation_found import (
    DEFLECTION,
    ERROR,
    EXPLICIT,
    NORMALISED,
    REFERENCE,
    Found,
    grids,
)
from implreg_book.chapters.same_loss import shown, times
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.rules import Outcome, in_words
from implreg_book.parameters.common import DATASETS
from implreg_book.parameters.regularisation import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import tables_of

_STRAIGHTEN = {
    Outcome.SUPPORTED: ("straightens the paths", "straighten the paths"),
    Outcome.NOT_SUPPORTED: ("does not straighten them", "do not straighten them"),
    Outcome.UNDECIDED: ("is undecided", "are undecided"),
    Outcome.NOT_TESTED: ("is not tested", "are not tested"),
}
_SHORT = {
    "decay": "weight decay",
    "dropout": "dropout",
    "mixup": "mixup",
    "noise": "input noise",
    "shifts": "shifts",
    "labels": "random labels",
}


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return protocols.of_ablation(grids(p)["table"].configs)


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    return Found(
        p,
        same_loss.completed(tables["table"]),
        same_loss.completed(tables["between"], list(mixup.MIXED)),
        tables["courses"],
        same_loss.completed(tables["memory"]),
        DATASETS[p.dataset].classes,
    )


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    p = found.p
    scope = (
        f"{p.dataset}, {p.train:,} training samples, same-class pairs, one hidden layer of "
        f"{p.width:,} units, plain SGD to training loss {p.test_loss:g}"
    )
    there = found.test[found.test.reached]
    straightness = {
        str(name): mean(rows.straightness)
        for name, rows in there.groupby("condition", sort=False)
        if (rows.edge_margin > 0).all()
    }
    if not found.trained or REFERENCE not in straightness:
        why = "the reference did not reach the loss, or has learned too little"
        return {"C6": claims.not_tested("C6", why, scope=scope)}
    own = straightness.pop(REFERENCE)
    return {"C6": claims.almost_straight(own, others=straightness, scope=scope)}


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    return (
        _setting(found)
        | _opening(found)
        | _arrivals(found)
        | _changes(found)
        | mixup.numbers(found)
        | _errors(found)
        | _heart(found)
    )


def _does(names: list[str], verb: tuple[str, str]) -> str:
    """Names with a verb: "none lowers", "mixup lowers", "weight decay and dropout lower"."""
    return f"{listed(names) or 'none'} {verb[len(names) > 1]}"


def _setting(found: Found) -> dict[str, object]:
    """What was run."""
    p = found.p
    images = DATASETS[p.dataset].images
    return {
        "dataset": p.dataset,
        "networks": f"{len(found.test):,}",
        "seeds": p.seeds,
        "pairs": p.pairs,
        "factor": f"{rules.SAME:g}",
        "weak": f"{rules.WEAK:g}",
        "tests": found.tests,
        "test-loss": f"{p.test_loss:g}",
        "last-loss": f"{p.target_losses[-1]:g}",
        "cap": f"{p.cap:,}",
        "heart-epochs": f"{p.heart_epochs:,}",
        "epochs": f"{p.epochs:,}",
        "most-random": f"{100 * p.random_labels[-1]:g}",
        "move": "image is moved by up to so many pixels up or down and left or right"
        if images
        else "signal is moved by up to so many places back or forth",
        **{f"name-{short}": found.strongest[kind] for short, kind in _SHORT.items()},
    }


def _opening(found: Found) -> dict[str, object]:
    """What the page finds."""
    said = conditions.outcomes(found)
    labels, mixes = said["random labels bend"], said["mixup straightens"]
    by_outcome = {
        outcome: [kind for kind in EXPLICIT if said[f"{kind} straightens"] is outcome]
        for outcome in _STRAIGHTEN
    }
    ratios = found.ratios[DEFLECTION]
    return {
        "labels": {
            Outcome.SUPPORTED: "Random labels bend the paths",
            Outcome.NOT_SUPPORTED: "Not all shares of random labels bend the paths",
        }.get(labels, f"That random labels bend the paths is {labels}"),
        "labels-see": "The deflection sees what the training loss does not: these networks fit "
        "their labels as well as the reference."
        if labels is Outcome.SUPPORTED
        else "",
        "labels-tell": "The deflection does tell true labels from random ones at the same training "
        "loss"
        if labels is Outcome.SUPPORTED
        else f"That the deflection tells true labels from random ones is {labels}",
        "yet": {Outcome.SUPPORTED: ", and", Outcome.NOT_SUPPORTED: ", and yet"}.get(mixes, ";"),
        "labels-deflection": times(ratios[found.strongest["random labels"]]),
        "mixup-deflection": times(ratios[found.strongest["mixup"]]),
        "kinds": "; ".join(
            _does(names, _STRAIGHTEN[outcome]) for outcome, names in by_outcome.items() if names
        ),
        "h-labels": str(labels),
        "h-mixup": str(said["mixup straightens most"]),
        "h-error": str(said["what helps, helps by straightening"]),
        "reservation": same_loss.reservation(found.bends.values(), found.p.seeds),
    }


def _arrivals(found: Found) -> dict[str, object]:
    """Which runs arrived."""
    p, test, last = found.p, found.test, found.last
    reached, end = int(test.reached.sum()), p.target_losses[-1]
    late = (
        f" The last loss, {end:g}, was reached by "
        f"{words.how_many(int(last.reached.sum()), len(last), 'runs')}. The test is not there, "
        "because a penalty or noise that is always there may keep the loss from falling further."
    )
    margins = found.table.groupby("condition", sort=False).edge_margin.min()
    wrong = [str(name) for name, margin in margins.items() if margin <= 0]
    true = all(name in found.of_kind["random labels"] for name in wrong)
    why = "it refers to the true labels" if true else "ends of pairs are classified wrongly"
    return {
        "arrived": ""
        if reached == len(test)
        else f" ({words.how_many(reached, len(test), 'networks')} got there)",
        "arrival": same_loss.arrival(
            test, p.test_loss, f"{words.some(p.cap, 'epoch')} (the reference for {p.epochs:,})"
        )
        + late * (end != p.test_loss),
        "wrong": f"With {listed(wrong)} the edge margin is negative, as {why}. A ratio to it would "
        "mean nothing and is left out."
        if wrong
        else "",
    }


def _changes(found: Found) -> dict[str, object]:
    """How the conditions differ from one another."""
    moved, slower = found.paired("distance"), found.paired("epochs")
    busy = [found.strongest[kind] for kind in ("input noise", "shifts", "mixup")]
    late = [name for name in busy if rules.larger(slower[name])]
    far = [name for name in busy if rules.larger(moved[name])]
    there = found.test[found.test.reached & found.test.condition.isin(found.explicit)]
    distance = same_loss.correlated(there, "distance", "deflection")
    turned = [
        name
        for name in found.names
        if {"larger", "smaller"}
        <= {in_words(of[DEFLECTION][name]) for of in found.by_loss.values()}
    ]
    decided = any(x.n > 1 for x in found.ratios[DEFLECTION].values())
    orders = ""
    if len(found.by_loss) > 1 and decided:
        orders = "No condition changes sides: none straightens at one loss and bends at another."
        if turned:
            orders = f"From one loss to another, {_does(turned, ('changes', 'change'))} sides."
        orders += " The test at one loss is thus a choice, and the table says what another one "
        orders += "would have given."
    mixed = found.ratios[NORMALISED][found.strongest["mixup"]]
    return {
        **{f"moved-{short}": shown(moved[found.strongest[kind]]) for short, kind in _SHORT.items()},
        **same_loss.both("moved-labels", moved[found.strongest["random labels"]]),
        "slower": f"To the same loss {_does(late, ('takes', 'take'))} more epochs than the "
        "reference."
        if any(slower[name].n > 1 for name in busy)
        else "",
        "farther": f"Farther from their start the weights end under {listed(far)}." if far else "",
        "moved-correlation": same_loss.correlation(distance),
        "moved-words": words.by_sign(
            distance,
            above="So weights that move farther go with more bent paths, which does not make the "
            "one the cause of the other.",
            below="So weights that move farther go with less bent paths, which does not make the "
            "one the cause of the other.",
            unclear="So these conditions are too few, or too different, to say that one goes with "
            "the other.",
        ),
        "mixup-normalised": times(mixed),
        "mixup-shape": "So its paths are not straight lines made small."
        if rules.larger(mixed)
        else "",
        "orders": orders,
    }


def _errors(found: Found) -> dict[str, object]:
    """Whether what helps, helps by straightening."""
    first, second = conditions.correlations(found).values()
    common = next(iter(conditions.both_times(found).values()))

    def helps(loss: float, verb: tuple[str, str]) -> str:
        ratios = found.by_loss[loss][ERROR]
        if not any(ratios[name].n > 1 for name in found.explicit):
            return "no condition can be said to lower"
        return _does([name for name in found.explicit if rules.smaller(ratios[name])], verb)

    last = found.p.target_losses[-1]
    return {
        "correlation": same_loss.correlation(first),
        "correlation-end": same_loss.correlation(second),
        "correlation-labels": same_loss.correlation(
            same_loss.correlated(common, "deflection", "test_error")
        ),
        "conditions": len(found.explicit),
        "helps": helps(found.p.test_loss, ("lowers", "lower")),
        "helps-last": f"; at the loss {last:g}, {helps(last, ('does', 'do'))}"
        if last != found.p.test_loss
        else "",
    }


def _heart(found: Found) -> dict[str, object]:
    """Whether regularisation keeps networks from learning random labels by heart."""
    rows = conditions.memory(found)
    groups = rows.groupby("condition", sort=False)
    fit = groups.fitted.all().drop("none", errors="ignore")
    able, others = (list(fit.index[fit == value]) for value in (True, False))
    said = f"{_does(able, ('lets', 'let'))} all networks fit their labels"
    left = rows[rows.condition.isin(others) & ~rows.fitted & ~rows.diverged]
    if others:
        time = f"within {words.some(found.p.heart_epochs, 'epoch')}"
        if (left.epochs < found.p.heart_epochs).any():
            time = f"by the loss {found.p.test_loss:g}, where training ends"
        said += f", while {_does(others, ('does', 'do'))} not {time}"
    errors = 100 * groups.test_error.mean().dropna()
    guessed = f"guessing would have {100 * (1 - 1 / found.classes):.0f} %"
    return {
        "h-heart": str(conditions.outcomes(found)["learning by heart is not prevented"]),
        "fit": said,
        "first-row": "The first row is without regularisation, from the main run."
        if "none" in groups.groups
        else "No network of the main run has labels that are all random.",
        "guessing": f"The test errors lie between {errors.min():.0f} and {errors.max():.0f} %; "
        f"{guessed}."
        if len(errors)
        else "",
    }


FIGURES = {
    "ratios": conditions.ratio_figure,
    "course": mixup.course_figure,
    "error": conditions.error_figure,
}
TABLES = {
    "arrivals": conditions.arrivals,
    "unfinished": conditions.unfinished,
    "ratios": conditions.ratio_table,
    "losses": conditions.loss_table,
    "mixup": mixup.ratio_table,
    "lines": mixup.line_table,
    "memory": conditions.memory_table,
    "outcomes": conditions.outcome_table,
}
