"""The chapter "Depth" under other parameters: words follow numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import depth as chapter
from implreg_book.experiments import depth as experiment
from implreg_book.parameters.depth import Parameters

from implreg.errors import InputError

CHAPTER = "depth"
SMALL = {
    "networks": 4, "groups": 2, "narrow_networks": 4, "width": 16, "widths": [16, 24],
    "biased_depths": [1], "leaks": [0.1], "inputs": 3, "outputs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "_DRAWS", 200)
        yield


@pytest.fixture(scope="module")
def found(few_draws):
    return found_with(CHAPTER, **SMALL)


def test_the_prose_has_what_it_says(found):
    check_prose(CHAPTER, told(CHAPTER, found))


@pytest.mark.parametrize(
    "values",
    [
        {"depths": [1, 12], "angles": [3.14], "norms": [1.0], "leaks": [0.99], "sigma_b": 10.0,
         "inputs": 2, "outputs": 1},
        {"depths": [1, 2], "angles": [0.01, 0.02], "norms": [2.0], "middle": 2, "narrow": 8},
    ],
)  # fmt: skip
def test_other_parameters_tell_no_untruth(values, few_draws):
    found = found_with(CHAPTER, **SMALL | values)
    numbers = chapter.numbers(found)
    assert numbers["samples"] == f"samples at an angle of {max(values['angles']):.2f}"
    assert numbers["norms"] == f"1 : {values['norms'][0]:g}"
    assert bool(numbers["straight-others"]) == (len(values["angles"]) > 1)
    for verdict in chapter.verdicts(found).values():
        assert numbers["samples"] in verdict.scope


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"width": 1}, "width"),
        ({"networks": 10}, "networks"),
        ({"groups": 150}, "networks"),
        ({"middle": 1}, "middle"),
        ({"angles": (1.0, 1.001)}, "angles"),
        ({"norms": (1.0, 1.0)}, "norms"),
    ],
)
def test_what_cannot_work_is_refused(values, name):
    with pytest.raises(InputError, match=f"parameter {name} "):
        Parameters(**values)


def test_groups_are_of_equal_size_and_no_seed_is_used_twice():
    p = Parameters(networks=23, groups=4, narrow_networks=9, seed=3)
    drawn = [c for grid in chapter.grids(p).values() for c in grid.configs]
    seeds = [s for c in drawn for s in range(c.seed, c.seed + c.networks)]
    assert len(seeds) == len(set(seeds)) and min(seeds) == 3
    settings = chapter.grids(p)["settings"].configs
    assert sum(c.networks for c in settings) == 20 * len(settings) / 4


def test_silent_groups_are_left_out_and_judge_nothing(found):
    rows = found.table.assign(mean=0.0, sem=0.0)
    wide, narrow = (t.assign(mean=0.0, sem=0.0) for t in (found.widths, found.narrow))
    chosen = rows.quantity == "slope product"
    rows.loc[chosen] = found.table[chosen]
    silent = replace(found, table=rows, widths=wide, narrow=narrow)
    numbers = chapter.numbers(silent)
    assert numbers["bridge-deepest"] == "no run" and "more: no z" in numbers["without"]
    assert chapter.ratio_figure(silent).alt.startswith("Nothing is drawn")
    assert "none" in chapter.scores(silent).data.to_string()
    assert int(numbers["scores"]) == len(found.checked) / 6
    assert {str(v.outcome) for v in chapter.verdicts(silent).values()} == {"not tested"}


def test_scores_pool_groups_of_equal_size(found):
    rows = found.table[(found.table.depth == 1) & (found.table.sigma_b == 0)]
    rows = rows[(rows.quantity == "switches") & (rows.angle == 0.5) & (rows.norm == 1)]
    one = found.scores.query("setting == '1 layer' and quantity == 'switches'").iloc[0]
    assert len(rows) == 2
    assert one["mean"] == pytest.approx(rows["mean"].mean())
    assert one["sem"] == pytest.approx(math.hypot(*rows["sem"]) / 2)
    assert one.z == pytest.approx((one["mean"] - 16 * 0.5 / math.pi) / one["sem"])


def kernel(s, t, angle):
    """Covariance of outputs of one wide ReLU layer at two positions between unit samples."""
    x0, x1 = np.array([1.0, 0.0]), np.array([math.cos(angle), math.sin(angle)])
    a, b = ((1 - r) * x0 + r * x1 for r in (s, t))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    u = math.acos(min(1.0, a @ b / size))
    return size * (math.sin(u) + (math.pi - u) * math.cos(u)) / math.pi


def test_straightness_is_that_of_the_arc_cosine_kernel(found):
    for angle, measured in zip(found.p.angles, found.straightness(1).tolist()):
        weights = {0.5: 1.0, 0.0: -0.5, 1.0: -0.5}
        off = sum(v * w * kernel(s, t, angle) for s, v in weights.items()
                  for t, w in weights.items())  # fmt: skip
        change = kernel(0, 0, angle) + kernel(1, 1, angle) - 2 * kernel(0, 1, angle)
        assert measured == pytest.approx(math.sqrt(off / change), rel=1e-6)
    assert found.predicted(1).bridge_ratio.tolist() == pytest.approx([1, 1])


def test_words_follow_gaps(found):
    def with_share(within, across):
        rows = found.table.copy()
        total = float(found.predicted(found.deepest).quadratic_variation[found.at])
        for name, share in (("within layers", within), ("across layers", across)):
            chosen = rows.quantity == name
            rows.loc[chosen, "mean"] = share * total * (1 + rows[chosen].seed / 1e6)
        return chapter.numbers(replace(found, table=rows))

    usual, other = with_share(0.2, -0.8), with_share(-0.2, 0.8)
    assert (usual["within"], usual["between"]) == ("add up", "cancel")
    assert (other["within"], other["between"]) == ("cancel", "add up")
