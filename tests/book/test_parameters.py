"""The schema of the chapters' parameters, and every way by which a wrong one may come."""

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from implreg_book.parameters import Parameter, check, find
from implreg_book.parameters.common import DATASETS
from implreg_book.parameters.notebook import banner
from implreg_book.parameters.schema import in_time, parse, parse_several

import implreg as ir
from implreg.errors import InputError

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
PROFILES = yaml.safe_load((ROOT / "book" / "profiles.yml").read_text("utf-8"))
EVERY = [(name, one) for name in CHAPTERS for one in find(name).schema().values()]
IDS = [f"{name}-{one.name}" for name, one in EVERY]


def notebook(chapter):
    return json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text("utf-8"))


def code(chapter):
    cells = notebook(chapter)["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


# The schema itself.


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_begins_with_its_parameters_and_their_check(chapter):
    first, second = code(chapter)[:2]
    schema = find(chapter)
    assert "parameters" in first["metadata"]["tags"]
    assert "".join(first["source"]) == schema.cell()
    assert f'bk.parameters.check("{chapter}", globals())' in "".join(second["source"])
    namespace = {}
    exec("".join(first["source"]), namespace)
    assert check(chapter, namespace) == schema()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_has_its_panel_and_cells_that_one_can_read(chapter):
    cells = code(chapter)
    (panel,) = [cell for cell in cells if "bk.widgets.panel(p)" in "".join(cell["source"])]
    assert "".join(panel["source"]).endswith("\npanel")
    for cell in cells:
        # What one can move is in reach of Python.
        assert not re.match(r"[\w.]*explorer\(", "".join(cell["source"]).splitlines()[-1])
        assert len(cell["source"]) <= 30 or "parameters" in cell["metadata"].get("tags", [])


@pytest.mark.parametrize(("chapter", "one"), EVERY, ids=IDS)
def test_each_parameter_says_all_that_a_reader_needs(chapter, one):
    assert one.help and not one.help.endswith(".")
    assert one.choices or one.range or one.type in ("str", "bool")
    if one.of in ("int", "float"):
        assert one.low is not None and one.high is not None and one.low < one.high
    assert 0 <= one.share <= 1
    assert len(one.line) <= 100


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_time_of_a_chapter_grows_with_what_it_says(chapter):
    schema = find(chapter)
    usual = schema()
    assert usual.cost() == pytest.approx(schema.seconds) and schema.seconds > 0
    for profile, chapters in PROFILES.items():
        cost = schema.of(chapters.get(chapter, {})).cost()
        assert cost <= usual.cost() if profile == "smoke" else cost > 0
    for name, one in schema.schema().items():
        if one.share and one.type == "int":
            more = schema.of({name: one.default + 1}).cost() - usual.cost()
            assert more == pytest.approx(schema.unit_cost(name))


@pytest.mark.parametrize("name", ["digits", "mnist1d", "fashion-mnist"])
def test_sizes_of_data_sets_are_those_of_the_instrument(name):
    data = ir.load(name, shaped=True)
    size = DATASETS[name]
    assert (size.train, size.classes) == (len(data.x_train), data.classes)
    assert (size.side, size.images) == (data.shape[-1], len(data.shape) == 3)
    assert set(DATASETS) == set(ir.datasets.ORIGINS)


# What is refused, and what is taken.


@given(st.data())
def test_what_a_schema_allows_it_takes_and_nothing_beside(data):
    chapter, one = data.draw(st.sampled_from(EVERY))
    numbers = st.integers(-(10**20), 10**20) | st.floats() | st.text() | st.none() | st.booleans()
    value = data.draw(numbers | st.lists(numbers, max_size=4))
    try:
        taken = one.typed(chapter, value)
    except InputError as error:
        told = str(error)
        assert told.startswith(f"parameter {one.name} of chapter {chapter} must be ")
        assert "\n" not in told and ", got " in told and told[-1] in ".?" and len(told) < 600
    else:
        entries = taken if one.several else [taken]
        assert isinstance(taken, list) == one.several and len(entries) >= one.least * one.several
        for entry in entries:
            assert entry in one.choices or (one.low or entry) <= entry <= (one.high or entry)


@pytest.mark.parametrize(
    ("chapter", "values", "told"),
    [
        ("width", {"kind": "ünïcode"}, "kind of chapter width must be one of same, different, ran"),
        ("width", {"kind": "diferent"}, "did you mean different?"),
        ("width", {"seeds": -3}, "seeds of chapter width must be a whole number from 1 to 10,000,"),
        ("width", {"seeds": 10**20}, "got 100000000000000000000; pass a value such as 20."),
        (
            "width",
            {"datasets": "mnist"},
            "of type list[str], got 'mnist'; pass a list, such as ['m",
        ),
        ("width", {"datasets": ["mnits"]}, "must be 1 or more of digits, mnist1d, "),
        ("width", {"widths": [64]}, "must be 2 or more whole numbers from 1 to 65,536, none twice"),
        ("width", {"widths": [64, 64]}, "none twice, got [64, 64]"),
        ("width", {"seeds": "20"}, "must be of type int, got '20'"),
        ("anatomy", {"pair": 99}, "pair of chapter anatomy must be below pairs, 64, got 99"),
        ("anatomy", {"train": 999_999}, "a whole number from 10 to 60,000, got 999999"),
        ("anatomy", {"train": 4000}, "lie between 20 and 1,442 with dataset digits, got 4000"),
        ("anatomy", {"train": 20, "pairs": 64}, "be at most 20 with 20 samples, got 64"),
        ("sgd", {"measure_at": [5, 1]}, "from 0 to 1,000,000, rising, got [5, 1]"),
        ("sgd", {"depths": [12]}, "be of 10, 16, 22, 28, ... (6n + 4), got [12]"),
        ("sgd", {"convolutions": [3, 7]}, "be of 3, 4, 5, 6, 8, got [3, 7]"),
        ("sgd", {"side": 4}, "leave at least 8 pixels to a side for the networks of this"),
        ("start", {"dataset": "mnist1d"}, "be 0 with dataset mnist1d, which are signals, got 14"),
        ("start", {"target_losses": [0.1, 0.3]}, "from 1e-6 to 100, falling, got [0.1, 0.3]"),
        ("architecture", {"deep": 4}, "deep of chapter architecture must be one of depths"),
        ("regularisation", {"test_loss": 0.2}, "must be one of target_losses, [0.3, 0.1, 0.01]"),
        ("one-dimension", {"y": [0.0] * 5}, "must have as many numbers as x, 6, got"),
        ("where-it-fails", {"samples": [3, 5]}, "must be powers of 2, got [3, 5]"),
        ("width", {"wdth": 3}, "no parameter of chapter width 'wdth', only datasets, widths"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(chapter, values, told):
    with pytest.raises(InputError, match=re.escape(told)) as error:
        find(chapter).of(values)
    assert "\n" not in str(error.value)


@given(st.integers(1, 10_000))
def test_values_come_through_text_as_they_are(seeds):
    one = find("width").schema()["seeds"]
    assert parse("width", one, str(seeds)) == seeds
    assert parse_several("width", one, f"{seeds},3") == [seeds, 3]


def test_parameters_are_frozen_and_lists_are_tuples():
    found = find("width").of({"widths": [8, 16], "seeds": 2})
    assert found.widths == (8, 16) and found.values()["widths"] == [8, 16]
    assert found.changed() == {"widths": [8, 16], "seeds": 2}
    with pytest.raises(FrozenInstanceError):
        found.seeds = 3


def test_a_chapter_that_is_not_of_this_book_has_no_schema():
    assert find("alpha") is None and find("schema") is None and find("a b") is None


def test_times_are_told_in_the_unit_that_fits():
    told = [in_time(x) for x in (0.02, 3, 119, 120, 7199, 7200)]
    assert told == ["0.02 s", "3 s", "119 s", "2 min", "120 min", "2 h"]
    one = Parameter("n", "int", 3, "n")
    assert one.range == "" and one.sentence == "n"


# In a notebook.


def test_a_page_of_other_parameters_says_so():
    assert banner(find("width")()) == {}
    told = banner(find("width").of({"kind": "different"}))
    assert "<code>kind</code> is different instead of same" in told["text/html"]
    assert banner(find("paper-in-ten-minutes").of({"chapters": "elsewhere"})) == {}
    smoke = banner(find("width").of(PROFILES["smoke"]["width"]))
    assert smoke["text/plain"].startswith(
        "Run with profile smoke: its numbers and verdicts are not"
    )


def test_names_that_papermill_injects_are_known():
    namespace = {"In": ["", "# Parameters\nwdth = 3\n"], **find("width")().values()}
    with pytest.raises(InputError, match="did you mean widths"):
        check("width", namespace)
    # What a reader defines by hand is not a parameter.
    assert check("width", namespace | {"In": ["mine = 3"], "mine": 3}) == find("width")()


@pytest.mark.pages
def test_plain_papermill_stops_at_once(tmp_path):
    for words in (["-p", "wdth", "3"], ["-p", "datasets", "mnist"]):
        output = tmp_path / "out.ipynb"
        command = [sys.executable, "-m", "papermill", ROOT / "book" / "width.ipynb", output]
        done = subprocess.run(
            [*command, "-k", "python3", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode
        assert done.stderr.strip().splitlines()[-1].startswith("InputError: ")
        cells = json.loads(output.read_text("utf-8"))["cells"]
        ran = [
            cell["id"] for cell in cells if cell["metadata"].get("papermill", {}).get("duration")
        ]
        assert "run" not in ran
