"""What pages say of the released program is the difference of two tables, and nothing else."""

import ast
import json
import re
import subprocess
import sys

import pytest
import yaml
from _chapters import ROOT, module_of
from implreg_book import protocol
from implreg_book.parameters import find
from implreg_book.protocol import ASPECTS, FIGURES, compare, dropped, filled, in_words, together

from implreg.errors import InputError

CALL = re.compile(
    r"bk\.protocol\.compare\((\(.*?\)|\".*?\"), chapter\.protocol\(p\)\)\.table\(\)\.style"
)
PAPER = yaml.safe_load((ROOT / "book" / "profiles.yml").read_text("utf-8"))["paper"]


def figures_of(chapter):
    """The figures that a page compares itself with."""
    notebook = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text("utf-8"))
    calls = [CALL.fullmatch("".join(cell["source"])) for cell in notebook["cells"]]
    (call,) = filter(None, calls)
    return ast.literal_eval(call[1])


# Other parameters of each chapter, and the aspect that they change.
CHANGES = {
    "after-training": ({"widths": [32, 64]}, "sizes"),
    "anatomy": ({"kind": "different"}, "classes of a pair"),
    "architecture": ({"warmup_epochs": 0}, "warm-up from"),
    "complexity": ({"seeds": 3}, "networks of each size"),
    "depth": ({"inputs": 7}, "data sets"),
    "depth-at-initialisation": ({"resnet_factor": 1.0}, "channels, times the program's"),
    "initialisation": ({"batch": 64}, "samples per step"),
    "margin": ({"kinds": ["different"]}, "classes of a pair"),
    "one-dimension": ({"steps": 1000}, "epochs"),
    "one-hidden-layer": ({"depths": [1]}, "networks"),
    "optimiser": ({"target_losses": [0.3]}, "measured after epochs"),
    "photographs": ({"points": 12}, "positions"),
    "regularisation": ({"side": 0}, "resizing"),
    "sgd": ({"vgg_rate": 0.01}, "learning rate"),
    "start": ({"scales": [0.5]}, "variants"),
    "where-it-fails": ({"learning_rate": 0.001}, "learning rate"),
    "width": ({"datasets": ["mnist", "cifar10", "cifar100"]}, "data sets"),
    "your-own-network": ({"pairs": 9}, "pairs"),
}


# What the program has, written out once more.


@pytest.mark.parametrize(
    ("figure", "sizes", "count", "data"),
    [
        ("1", (152,), 1, ("ImageNet",)),
        ("2", (1000, 2000, 3000, 4000, 5000), 100, ("mnist", "cifar10", "cifar100")),
        ("3", (1000, 3000, 5000, 7000, 9000), 1, ("mnist",)),
        ("4 a-c", (3, 4, 5, 6, 8), 50, ("mnist", "cifar10", "cifar100")),
        ("4 d-f", (3, 5, 8), 1, ("cifar10",)),
        ("5 a-c", (10, 16, 22, 28, 34, 40), 50, ("mnist", "cifar10", "cifar100")),
        ("5 d-f", (10, 22, 34), 1, ("cifar100",)),
    ],
)
def test_networks_and_data_of_each_figure(figure, sizes, count, data):
    has = FIGURES[figure]
    assert (has["sizes"], has["networks of each size"], has["data sets"]) == (sizes, count, data)
    assert set(has) <= set(ASPECTS)
    if figure != "1":
        assert (has["training samples"], has["pixels to a side"], has["pairs"]) == (50000, 28, 128)


def test_training_of_the_three_families():
    rates = [(FIGURES[f]["learning rate"], FIGURES[f]["warm-up from"]) for f in
             ("3", "4 d-f", "5 d-f")]  # fmt: skip
    assert rates == [(0.001, 1e-5), (0.01, 1e-5), (0.02, 1e-6)]
    for figure in ("3", "4 d-f", "5 d-f"):
        has = FIGURES[figure]
        assert (has["epochs"], has["samples per step"], has["warm-up, epochs"]) == (2500, 128, 200)
        assert len(has["measured after epochs"]) == 125
        assert has["measured after epochs"][-1] == 2480
        assert has["x axis"] == "epoch"
    assert FIGURES["3"]["output weights"] == "N(0, 2 / inputs)"
    assert {FIGURES[f]["output weights"] for f in FIGURES if f not in ("1", "3", "6")} == {
        "N(0, 1 / inputs)"
    }
    assert "0.25 after poolings" in FIGURES["4 d-f"]["dropout"]
    assert "0.5 in each block" in FIGURES["5 d-f"]["dropout"]


def test_batch_norm_axes_and_pairs():
    norm = "batch norm before training"
    assert FIGURES["5 a-c"][norm] == "filled by 20 batches of 500 at rate 1e-08"
    assert FIGURES["5 d-f"][norm] == "filled by 79 batches of 128 at rate 1e-06"
    assert {FIGURES[f]["x axis"] for f in ("4 a-c", "5 a-c")} == {"mean number of switches"}
    assert FIGURES["6"]["outputs"] == "own class" and FIGURES["6"]["x axis"] == "epoch"
    assert FIGURES["6"]["sizes"] == ((1000, 3000, 5000, 7000, 9000), (3, 5, 8), (10, 22, 34))
    assert FIGURES["1"]["classes of a pair"] == ("of two classes",)
    for figure in set(FIGURES) - {"1"}:
        assert FIGURES[figure]["positions"] == 1000
        assert FIGURES[figure]["pairs are drawn"] == "classes uniform, with replacement"
    seams = {figure for figure, has in FIGURES.items() if has.get("seam")}
    assert seams == {"5 a-c", "5 d-f"}


# What differs.


@pytest.mark.parametrize("figure", FIGURES)
def test_the_program_is_the_same_as_itself(figure):
    found = compare(figure, FIGURES[figure])
    assert not found.different and not found.missing and not found.added
    assert set(found.table()["this page"]) == {"same"}


@pytest.mark.parametrize("figure", FIGURES)
def test_each_aspect_that_changes_comes_first(figure):
    for aspect in FIGURES[figure]:
        found = compare(figure, FIGURES[figure] | {aspect: "something else"})
        assert list(found.different) == [aspect]
        first = found.table().iloc[0]
        assert first.name == aspect and first["this page"] == "something else"
        assert first["program"] == in_words(FIGURES[figure][aspect])


def test_what_one_side_lacks_has_a_dash():
    run = {name: value for name, value in FIGURES["2"].items() if name not in ("pairs", "seam")}
    found = compare("2", run | {"epochs": 9, "learning rate": None})
    assert found.missing == ("pairs",) and found.added == ("epochs",)
    table = found.table()
    assert list(table.index[:2]) == ["pairs", "epochs"]
    assert table.loc["pairs", "this page"] == table.loc["epochs", "program"] == "–"
    assert "seam" not in table.index and "learning rate" not in table.index


def test_several_figures_are_named():
    names = ("3", "4 d-f", "5 d-f")
    run = {name: FIGURES[name] | {"sizes": (3, 5, 8), "epochs": 9} for name in names}
    table = compare(names, run).table()
    assert table.loc["sizes", "program"] == (
        "3: 1,000, 3,000, 5,000, 7,000, 9,000; 4 d–f: 3, 5, 8; 5 d–f: 10, 22, 34"
    )
    assert table.loc["sizes", "this page"] == "3: 3, 5, 8; 4 d–f: same; 5 d–f: 3, 5, 8"
    assert table.loc["epochs"].tolist() == ["2,500", "9"]
    assert table.loc["learning rate"].tolist() == ["3: 0.001; 4 d–f: 0.01; 5 d–f: 0.02", "same"]


def test_what_there_is_not_is_refused():
    with pytest.raises(InputError, match=r"aspects of a run must be of .* got .'colour'"):
        compare("2", {"colour": "red"})
    with pytest.raises(InputError, match=r"figures must be of .* got .'7'"):
        compare("7", {})
    with pytest.raises(InputError, match="run must have aspects for each of"):
        compare(("3", "4 d-f"), {"3": {}})


def test_words():
    assert dropped(protocol.VGG, 0.2) == "0.2 after dense layers, 0.1 after poolings"
    assert dropped(protocol.RESNET, 0.0) is None
    assert filled(20, 500, 1e-8) == FIGURES["5 a-c"]["batch norm before training"]
    assert together({"a": 1, "b": 2}, {"a": 1}) == {"a": 1}
    assert in_words((0.001, None)) == "0.001, none" and in_words(("a, b", "c")) == "a, b; c"


def test_the_table_is_cheap():
    code = "import sys, implreg_book.protocol; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# The pages.


@pytest.mark.parametrize("chapter", CHANGES)
def test_each_page_tells_of_its_own_parameters(chapter):
    module, schema, figures = module_of(chapter), find(chapter), figures_of(chapter)
    values, aspect = CHANGES[chapter]
    usual, other = (
        compare(figures, module.protocol(p)).table() for p in (schema(), schema.of(values))
    )
    assert len(usual) and not usual.equals(other)
    pages = [table["this page"].get(aspect) for table in (usual, other)]
    assert pages[0] != pages[1]


def test_all_pages_with_runs_are_tried():
    every = {path.stem for path in (ROOT / "book").glob("*.ipynb")}
    assert every - CHANGES.keys() == {"paper-in-ten-minutes", "released"}
    for path in (ROOT / "book").glob("*.ipynb"):
        if path.stem in CHANGES:
            assert "Same as in the paper, and different" not in path.read_text("utf-8")


@pytest.mark.parametrize("chapter", ["width", "depth-at-initialisation", "sgd"])
def test_the_profile_paper_has_the_networks_of_the_program(chapter):
    module, figures = module_of(chapter), figures_of(chapter)
    found = compare(figures, module.protocol(find(chapter).of(PAPER[chapter])))
    same = {"networks of each size", "sizes", "channels, times the program's", "pairs"}
    trained = {"learning rate", "warm-up from", "warm-up rises", "measured after epochs"}
    assert same | (trained if chapter == "sgd" else set()) <= set(found.same)
    assert {"data sets", "training samples"} <= found.different.keys()
