"""The chapter "Anatomy of a path" under other parameters."""

import json

import pytest
import torch
from _chapters import ROOT, check_prose, found_with, module_of, told
from implreg_book.parameters.anatomy import Parameters

import implreg as ir

CHAPTER = "anatomy"
QUICK = {"train": 60, "widths": [8], "epochs": 1, "pairs": 2, "warmup_epochs": 0}


def by_hand(found):
    """What the visible cells of the notebook say of the path."""
    cells = json.loads((ROOT / "book" / "anatomy.ipynb").read_text("utf-8"))["cells"]
    source = {cell["id"]: "".join(cell["source"]) for cell in cells}
    said = {}
    names = {
        "torch": torch, "p": found.p, "path": found.path, "net": found.net, "drawn": found.drawn,
        "glue": lambda name, text, display: said.update({name: str(text)}),
    }  # fmt: skip
    for cell in ("checks", "count"):
        exec(source[cell].replace("from myst_nb import glue", ""), names)
    return {name.removeprefix(f"{CHAPTER}-"): text for name, text in said.items()}


def test_the_prose_has_what_it_says():
    found = found_with(CHAPTER)
    numbers, checks = told(CHAPTER, found), by_hand(found)
    check_prose(CHAPTER, numbers | checks)
    assert numbers["network"] == "trained network"
    assert checks["exact"] == "both are rounding"
    assert int(checks["sampled"]) <= int(numbers["found"])


@pytest.mark.parametrize(
    "values",
    [
        {"widths": [1], "pairs": 1},  # dead at the ends: nothing can be normalised
        {"kind": "different", "samples": 2, "widths": [2, 2]},
        {"learning_rate": 100.0, "epochs": 20, "widths": [64]},
    ],
)
def test_other_parameters_tell_no_untruth(values):
    found = found_with(CHAPTER, **QUICK | values)
    module = module_of(CHAPTER)
    numbers, checks = module.numbers(found), by_hand(found)
    assert ("diverged" if found.diverged else "hardly trained") in numbers["network"]
    assert ("another class" in numbers["second"]) == (found.p.kind == "different")
    assert "nan" not in "".join(map(str, {**numbers, **checks}.values()))
    assert len(module.gaps_table(found).data) and len(module.summaries_table(found))


@pytest.fixture(scope="module")
def straight():
    """A path without any kink: the second sample is the first one, but for its length."""
    found = found_with(CHAPTER, **QUICK)
    with torch.no_grad():
        for net in (found.untrained, found.net):
            net[0].bias.fill_(1e6)  # every unit is always on
    before, after = ir.trace(found.untrained, found.drawn), ir.trace(found.net, found.drawn)
    return type(found)(*[getattr(found, n) for n in ("p", "data", "drawn", "untrained", "net")],
                       False, before, after)  # fmt: skip


def test_a_path_without_a_kink_is_told(straight):
    assert len(straight.path.t) == 0
    numbers = module_of(CHAPTER).numbers(straight)
    assert "0 breakpoints" in module_of(CHAPTER).gaps_figure(straight).alt
    assert len(module_of(CHAPTER).gaps_table(straight).data) == 1
    assert numbers["cancel"] == "No kink bends it"
    assert numbers["pieces"] == "1 straight piece"
    assert numbers["grown"] == "unknown, as there was no gap"
    assert numbers["gap"] == "0.000"
    assert by_hand(straight)["sampled"] == by_hand(straight)["merged"] == "0"


def test_gaps_that_cancel_are_measured():
    found = found_with(CHAPTER, **QUICK)
    gaps = found.path.gaps[:, found.label]
    share = 100 * float(gaps.sum().abs() / gaps.abs().sum())
    assert f"{share:.0f} %" in module_of(CHAPTER).numbers(found)["cancel"]
    slopes = found.path.slopes[:, found.label]  # the gaps add up to the change of the slope
    assert float(gaps.sum()) == pytest.approx(float(slopes[-1] - slopes[0]))


def test_training_that_diverges_is_told():
    found = found_with(
        CHAPTER, **QUICK | {"widths": [64, 64], "learning_rate": 100.0, "epochs": 60}
    )
    assert found.diverged
    assert "diverged" in module_of(CHAPTER).numbers(found)["network"]
    assert torch.equal(found.after.values, found.before.values)


@pytest.mark.parametrize("values", [{"pair": 99}, {"train": 999_999}, {"pairs": 1, "pair": 1}])
def test_what_cannot_be_drawn_is_refused_at_once(values):
    with pytest.raises(ir.InputError, match=list(values)[-1]):
        Parameters.of(values)
