"""The chapter "Your own network": what stands beside the code that a reader reads there."""

import json
import re

import pandas as pd
import torch
from _chapters import ROOT
from implreg_book.chapters import your_own_network as chapter
from implreg_book.parameters.your_own_network import Parameters

import implreg as ir


def test_coincidences_are_decided_as_the_page_says():
    table = chapter.coincidences(0).set_index("case").switches
    assert table["two equal units"] == "relu at 0.5, relu at 0.5"
    assert table["a dead unit"] == table["zero all along"] == table["equal entries"] == "none"
    assert table["one entry overtakes"] == "pool at 0.5"
    assert table["through the origin"] == "20 units at 0.5"


def test_every_layer_that_is_refused_is_named():
    ends = torch.zeros(2, 1, 28, 28), torch.ones(2, 1, 28, 28)
    table = chapter.refused(ends).set_index("layer").answer
    assert all("'2'" in answer for answer in table) and "GELU" in table["GELU"]


def test_a_trace_that_is_tampered_with_is_not_certified():
    path = ir.trace(ir.mlp(4, 12, 2, seed=0), (-torch.ones(1, 4), torch.ones(1, 4) * 2))[0]
    assert len(path.t) > 2
    assert chapter.proofs(path).certified.tolist() == ["yes", "no", "no"]


def test_words_follow_numbers():
    assert chapter.checked(1e-15, 1e-16)["rounding"] == "both are rounding"
    assert chapter.checked(1e-15, 1e-3)["rounding"] == "more than rounding"
    p = Parameters(penalties=(0.5, 2.0))
    rows = [(c, 0, 20, c, 0.1, 0.2) for c in p.penalties]
    names = ["penalty", "seed", "step", "deflection", "train_loss", "test_error"]
    told = chapter.penalised(p, pd.DataFrame(rows, columns=names))
    assert told["penalty-ratio"] == "4.00" and told["weakest"] == "with the weakest, 0.5"


def test_all_that_the_prose_takes_is_told_somewhere():
    cells = json.loads((ROOT / "book" / "your-own-network.ipynb").read_text("utf-8"))["cells"]
    code = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    code += (ROOT / "book/implreg_book/chapters/your_own_network.py").read_text("utf-8")
    prose = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    for name in re.findall(r"\{glue:text\}`own-([\w-]+)`", prose):
        assert f'"{name}"' in code, name
