"""The first page: which sentences may stand there, and what lies where."""

import json

import pytest
from implreg_book.chapters import paper_in_ten_minutes as chapter
from implreg_book.evidence import claims
from implreg_book.evidence.statistics import NONE, Estimate
from implreg_book.parameters.paper_in_ten_minutes import Parameters

CLEAR = Estimate(0.1, 0.05, 0.2, 8)


def executed(folder, name, verdicts, **given):
    """An executed chapter with these verdicts and parameters that were set."""
    outputs = [{"data": {claims.MIME: verdict.to_dict()}} for verdict in verdicts]
    notebook = {
        "metadata": {"implreg": {"set": given, "profile": "default"}},
        "cells": [
            {"cell_type": "markdown", "source": [f"# The {name}\n"]},
            {"cell_type": "code", "source": [], "outputs": outputs},
        ],
    }
    (folder / f"{name}.ipynb").write_text(json.dumps(notebook), "utf-8")


@pytest.fixture
def book(tmp_path, monkeypatch):
    folder = tmp_path / "_build" / "executed"
    folder.mkdir(parents=True)
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text("root: book/x\n")
    monkeypatch.chdir(tmp_path / "book")  # where a reader who opens the notebook is
    return folder


def straight(estimate=CLEAR):
    return claims.almost_straight(estimate, scope="here")


def test_it_is_found_from_the_folder_of_the_notebook(book):
    executed(book, "margin", [straight()])
    found = chapter.measure(Parameters())
    assert list(found.titles.values()) == ["The margin"]
    numbers = chapter.numbers(found)
    assert numbers["short"].startswith("Between two samples of a class")
    assert (numbers["verdicts"], numbers["counts"]) == (1, "1 supported")


@pytest.mark.parametrize(
    ("verdict", "given"),
    [
        (straight(Estimate(2.0, 1.5, 2.5, 8)), {}),
        (straight(NONE), {}),
        (claims.not_tested("C6", "nothing was learned", scope="here"), {}),
        (straight(), {"seeds": 2}),
    ],
)
def test_a_sentence_that_is_not_carried_is_not_said(book, verdict, given):
    executed(book, "margin", [verdict], **given)
    found = chapter.measure(Parameters())
    assert "Between two samples" not in chapter.numbers(found)["short"]


def test_each_claim_and_verdict_is_shown_and_none_that_is_missing(book):
    untested = claims.not_tested("C3", "no network learned", scope="wide networks")
    executed(book, "margin", [straight().of_figure("6 a")])
    executed(book, "sgd", [untested])
    found = chapter.measure(Parameters())
    boxes = [box["text/markdown"] for box in chapter.claim_boxes(found)]
    assert len(boxes) == len(claims.CLAIMS)
    assert any("Not tested (1): no network learned In The sgd." in box for box in boxes)
    told = chapter.every_verdict(found)
    assert "Found: fluctuation over edge margin: 0.100 [0.0500" in told
    assert "no network learned; wide networks." in told and "nan" not in told
    figures = chapter.figure_map(found).set_index("figure")
    assert figures.verdicts["6"] == "<strong>C6</strong> supported"
    assert figures.chapter["2"] == "not run"
    assert "start" not in chapter.limits(found)["text/markdown"].lower()
