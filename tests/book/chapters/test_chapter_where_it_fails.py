"""The chapter "Where it fails" under other parameters: words follow numbers."""

import numpy as np
import pandas as pd
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import where_it_fails as chapter
from implreg_book.chapters import where_it_fails_pairs as pairs
from implreg_book.chapters import where_it_fails_signals as signals
from implreg_book.chapters.missing import paired
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import NONE, Estimate
from implreg_book.experiments import limits
from implreg_book.parameters.where_it_fails import Parameters
from scipy import stats

from implreg.errors import InputError

CHAPTER = "where-it-fails"
TINY = {
    "train": 60, "width": 16, "seeds": 2, "epochs": 30, "warmup_epochs": 0, "pairs": 3,
    "learning_rate": 0.1, "coordinate_seeds": 2, "points": 4, "coordinate_width": 8,
    "features": 2, "bandwidths": [0.5, 1.0], "factors": [5.0], "steps": 100, "rate": 0.02,
    "adam_rate": 0.02, "target_loss": 0.1, "smooth_seeds": 1, "sharpness": [1.0, 1e6],
    "samples": [2, 4],
}  # fmt: skip


def test_the_prose_has_what_it_says():
    numbers = told(CHAPTER, found_with(CHAPTER, **TINY))
    check_prose(CHAPTER, {f"lim-{name}": text for name, text in numbers.items()})
    assert numbers["why"] == ""
    # Between two positions lies all of the bend of a very sharp softplus.
    assert numbers["bend-excess"].startswith("large")


def test_what_did_not_learn_is_not_tested():
    """One step of training, signals that never reach their loss, one unit, one seed."""
    few = {"epochs": 1, "width": 1, "steps": 1, "seeds": 1, "coordinate_seeds": 1}
    found = found_with(CHAPTER, **TINY | few | {"target_loss": 1e-10, "pairs": 1})
    numbers = chapter.numbers(found)
    assert "0 or less in the one network" in numbers["why"]
    for name in ("residual", "bridge-different", "straight-same", "off-noise",
                 "near", "widest-over-relu", "bent-more", "relu-steps", "grid-error"):  # fmt: skip
        assert numbers[name] == "not tested", name
    assert numbers["walk-after"] == "none (not tested)" and numbers["used"] == "0 of 8"
    assert numbers["swayed"] == "no network"
    assert numbers["untested"] == numbers["tests"] and numbers["made-of"] == ""
    verdicts = chapter.verdicts(found)
    assert {verdict.outcome for verdict in verdicts.values()} == {Outcome.NOT_TESTED}
    assert "Nothing is drawn" in pairs.angles_figure(found.networks).alt
    assert "Nothing is drawn" in signals.between_figure(found.signals).alt
    assert (
        not chapter.tests_table(found, "pairs")
        .map(str)
        .apply(lambda c: c.str.contains("nan"))
        .any()
        .any()
    )


def test_what_diverges_is_counted_and_not_drawn():
    values = TINY | {"rate": 100.0, "adam_rate": 100.0, "coordinate_seeds": 1, "seeds": 1}
    found = found_with(CHAPTER, **values)
    numbers = chapter.numbers(found)
    assert numbers["coordinate-diverged"] > 0
    assert numbers["relu-fluctuation"] == "not tested" and numbers["as-such"] == ""
    alt = signals.curves_figure(found.signals).alt
    assert "not at the loss" in alt and "nan" not in alt


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "mnist"}, "train of chapter where-it-fails must be from 1 to 10,000"),
        ({"train": 20, "pairs": 3}, "pairs of chapter where-it-fails must be at most 2"),
        ({"sharpness": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)}, "2 to 5"),
        ({"samples": (4,)}, "2 or more"),
    ],
)
def test_what_cannot_work_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Parameters(**values)


# ------------------------------------------------------------ pairs


def networks(seeds=3, *, bridge=1.2, equal=1.2, far=1.0, start=-1.0, residual=1.0, **off):
    """Networks whose measures differ by a thousandth from seed to seed."""
    rows = []
    for seed in range(seeds):
        near = 1 + 1e-3 * seed
        usual = {"seed": seed, "fluctuation": 0.1 * near, "output_change": 1.0, "angle": 1.0,
                 "edge_margin": 1.0, "curvature": near, "length": 1.0, "switches": 9.0}  # fmt: skip
        shares = {"different": bridge, "farthest": far}
        for phase in ("before", "after"):
            for kind in pairs.KINDS:
                ratio = near * (shares.get(kind, 1.0) if phase == "after" else 1.0)
                rows.append(usual | {"phase": phase, "group": "kind", "paths": kind,
                                     "bridge_ratio": ratio, "residual_ratio": residual * near,
                                     "start_mean": start * near, "end_mean": -start * near,
                                     "other_mean": 0.0})  # fmt: skip
            for kind in ("between", *limits.OFF):
                more = off.get(kind.replace(" ", "_"), 1.0) if phase == "after" else 1.0
                rows.append(usual | {"phase": phase, "group": "off", "paths": kind,
                                     "bridge_ratio": near, "curvature": more * near})  # fmt: skip
        for kind, ratio in (("same", 1.0), ("different", equal)):
            rows += [usual | {"phase": "after", "group": "angle", "paths": kind, "from_angle": low,
                              "bridge_ratio": ratio * near} for low in (0.6, 0.8)]  # fmt: skip
        for place, steep in ((0.0, 1.05), (1.0, 1.1), (2.0, 1.0)):
            rows.append({"phase": "after", "group": "boundary", "seed": seed, "place": place,
                         "steepness": steep * near, "used": 4, "crossings": 1.0})  # fmt: skip
    return pairs.Networks(Parameters(seeds=seeds), pd.DataFrame(rows))


def said(made):
    tests = made.tests()
    judged = chapter.hypotheses.judge(tests)
    return pairs.numbers(made, {name: Outcome(judged.outcome[name]) for name in tests})


def test_between_classes_there_is_a_curve_or_there_is_none():
    numbers = said(networks())
    assert "around a curve" in numbers["limit-walk"] and "coherent S" in numbers["made-of"]
    assert numbers["matters"] == "So the class matters more than the distance."
    assert numbers["walk-before"] == "all 4 kinds of pairs"
    assert "around the middle of the path, drawn towards" in numbers["bend-sits"]
    plain = said(networks(bridge=1.0, equal=1.0, far=1.5, start=1.0))
    assert plain["limit-walk"] == "Here it does one between classes, too."
    assert plain["matters"] == "So the distance matters more than the class."
    assert plain["walk-after"] == "2 of 3 kinds of pairs" and plain["made-of"] == ""
    assert "not shown" in plain["curves"]
    other = said(networks(residual=2.0))
    assert other["near"] == "not supported" and "something else" in other["limit-walk"]
    alone = said(networks(seeds=1))
    assert "not decided" in alone["limit-walk"] and "none" in alone["walk-before"]


@pytest.mark.parametrize(
    ("noise", "words"), [(1.0, "hardly know the data"), (3.0, "fewer or"), (0.3, "or larger")]
)
def test_kinks_off_the_data(noise, words):
    numbers = said(networks(noise=noise, to_noise=noise))
    assert words in numbers["kinks"]
    assert (numbers["off-curvature-more"] == "to noise, noise") == (noise > 1)
    assert (numbers["off-curvature-less"] == "to noise, noise") == (noise < 1)


def test_a_ratio_at_equal_angles_is_the_geometric_mean_over_bins_and_seeds():
    made = networks(equal=1.21)
    assert np.isclose(paired(made.at_equal_angles("bridge_ratio")).value, 1.21)
    assert paired(pd.Series([1.0, np.nan]), pd.Series([0.0, 1.0])) == NONE
    ratios = paired(pd.Series([1.0, 4.0, -1.0]), pd.Series([1.0, 2.0, 1.0]))
    logs = stats.t.interval(0.95, 1, np.log(2) / 2, np.log(2) / 2)
    assert np.allclose(
        [ratios.low, ratios.value, ratios.high], np.exp([logs[0], np.log(2) / 2, logs[1]])
    )


def test_one_network_that_has_not_learned_leaves_all_untested():
    made = networks()
    table = made.table.copy()
    table.loc[(table.seed == 1) & (table.phase == "after"), "edge_margin"] = -0.1
    lost = pairs.Networks(made.p, table)
    assert lost.why == "the edge margin is 0 or less in 1 of 3 networks" and lost.after.empty
    gone = pairs.Networks(made.p, table[table.phase == "before"])
    assert gone.why == "all networks diverged" and said(gone)["diverged"] == "3 of 3"


# ------------------------------------------------------------ coordinates


def fitted(error, *, fluctuation=None, start=(1.0, 2.0, 3.0, 4.0), seeds=3, reached=True):
    """Networks with given errors over straight lines: ReLU, two bandwidths, one factor."""
    p = Parameters(coordinate_seeds=seeds, bandwidths=(1.0, 2.0), factors=(5.0,))
    rows = [
        {"network": kind, "bandwidth": b, "optimiser": optimiser, "seed": seed,
         "reached": reached, "diverged": False, "steps": 9, "line_error": 1.0,
         "error": error[i] * (1 + 1e-3 * seed), "signal_fluctuation": 1.0,
         "fluctuation": (fluctuation or start)[i] * (1 + 1e-3 * seed), "start_spread": 1.0,
         "coarse_fluctuation": 0.1, "exact_fluctuation": np.nan, "start_fluctuation": start[i]}
        for optimiser in ("gradient descent", "adam")
        for i, (kind, b) in enumerate(
            [("relu", 0.0), ("fourier", 1.0), ("fourier", 2.0), ("sine", 5.0)]
        )
        for seed in range(seeds)
    ]  # fmt: skip
    made = signals.Signals(p, pd.DataFrame(rows), pd.DataFrame())
    judged = chapter.hypotheses.judge(made.tests())
    outcomes = {
        name: Outcome(judged.outcome[name]) if ratio.n else Outcome.NOT_TESTED
        for name, ratio in judged.ratio.items()
    }
    return made, signals.numbers(made, outcomes)


def test_networks_on_features_fail_or_do_not():
    made, numbers = fitted([0.5, 2.0, 4.0, 0.5])
    assert numbers["worse-lines"] == "Fourier 1, Fourier 2" and numbers["better-lines"] == "sine 5"
    assert (
        "not that such networks fail" in numbers["as-such"] and "grows" in numbers["with-bandwidth"]
    )
    assert numbers["bent-more"] == "Fourier 1, Fourier 2, sine 5"
    assert "strays far" in numbers["limit-init"] and "leaves between" in numbers["kept"]
    assert made.kept() == Estimate(1.0, 1.0, 1.0, 3)
    _, other = fitted([0.5, 4.0, 2.0, 2.0], fluctuation=(4.0, 3.0, 2.0, 1.0))
    assert other["as-such"] == "" and "falls" in other["with-bandwidth"]
    assert other["bent-more"] == "none" and "fluctuate less" in other["kept"]
    assert "not shown" in other["limit-init"]
    _, missed = fitted([1.0] * 4, reached=False)
    assert missed["missed"] == "24 of 24" and missed["bent-more"] == "not tested"
    assert missed["swayed"] == "no network" and missed["relu-steps"] == "not tested"


def test_all_drawn_networks_differ():
    for bandwidths in ((0.5, 1.0), (8.0, 16.0), (0.5, 1.0, 2.0, 4.0)):
        drawn = signals.drawn(Parameters(bandwidths=bandwidths))
        assert len({(c.network, c.bandwidth) for c in drawn}) == 4
