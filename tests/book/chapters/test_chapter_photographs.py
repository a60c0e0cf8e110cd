"""The chapter "From one photograph to another" under other parameters: words follow numbers."""

from dataclasses import replace

import numpy as np
import pytest
from _chapters import check_prose, found_with, told
from implreg_book.chapters import long_path
from implreg_book.chapters import photographs as chapter
from implreg_book.parameters.photographs import Parameters

from implreg.errors import InputError

CHAPTER = "photographs"
TINY = {
    "network": "random", "side": 2, "points": 3, "windows": 2, "switches": 4, "whole_sides": [2],
    "own_side": 2, "train": 20, "epochs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return found_with(CHAPTER, **TINY)


def test_the_prose_has_what_it_says(found):
    numbers = told(CHAPTER, found)
    check_prose(CHAPTER, {f"photo-{name}": text for name, text in numbers.items()})
    assert numbers["samples"] == "items of clothing" and numbers["sides"] == "2"
    assert "random weights" in numbers["network"]
    seen = long_path.number(found.large, "switches seen", "program")
    assert numbers["unseen"] == f"{seen / found.total.value:.2f}"
    assert numbers["lag"] == "none" or int(numbers["lag"]) > 1


def without(table, measures, number):
    """A table in which some measures have another number."""
    return table.assign(number=table.number.mask(table.measure.isin(measures), number))


def test_a_path_without_switches_has_no_gaps_to_speak_of(found):
    windows = without(found.windows, ["switches", "squares"], 0.0)
    windows = without(windows, ["variance"], np.nan)
    whole = without(found.whole, ["gap_deviation", "bend", "variance_ratio"], np.nan)
    whole = without(whole, ["switches", "fluctuation"], 0.0)
    sampled = without(found.sampled, ["switches seen", "square"], 0.0)
    still = replace(found, sampled=sampled, windows=windows, whole=whole)
    numbers = chapter.numbers(still)
    assert still.gap.n == 0 and still.ratios == {} and numbers["total"].startswith("0")
    for name in ("gap", "gap-least", "merged", "unseen", "ratio", "ratio-word", "times", "walk",
                 "learn-merge", "most", "bend", "learn-gap"):  # fmt: skip
        assert numbers[name] == "not tested", name
    assert numbers["bend-whole"] == "2 pixels: not tested"
    assert chapter.ratio_figure(still).alt.endswith("at the largest not tested.")
    assert "nan" not in chapter.windows_figure(still).alt + chapter.layers_figure(still).alt
    assert "not tested" in set(chapter.estimates_table(still)["2 pixels"])
    assert set(chapter.walk_table(still)["variance over lags"]) == {"not tested"}


def test_ratios_are_those_of_the_tables(found):
    rows, truth = chapter.estimates(found), found.paths["2 pixels"]
    outputs = long_path.by_output(truth, "deflection")
    assert rows["deflection δ, exact"]["2 pixels"] == pytest.approx(np.sqrt((outputs**2).mean()))
    least, most = (chapter.numbers(found)[f"gap-{end}"].split()[0] for end in ("least", "most"))
    assert float(least) <= float(most)
    large = found.each.dropna(subset="size")["size"]
    assert float(most) == pytest.approx(1e5 * large.max(), rel=0.06)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": 2}, "from 3 to 100,000"),
        ({"network": "random", "whole_sides": (4,)}, "side of chapter photographs must be at most"),
        ({"network": "random", "side": 4, "whole_sides": (65,)}, "whole_sides of chapter"),
        ({"whole_sides": ()}, "1 to 4"),
        ({"whole_sides": (2, 3, 4, 5, 6)}, "1 to 4"),
    ],
)
def test_what_cannot_work_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Parameters(**values)
