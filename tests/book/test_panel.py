"""The panel of a chapter, without a browser: controls, costs, refusals, and what it draws."""

import pytest
from _processes import wait_until
from implreg_book.parameters import Parameter, find
from implreg_book.parameters.registry import profiles
from implreg_book.parameters.schema import in_words
from implreg_book.press.redraw import answer_to, with_numbers
from implreg_book.widgets import panel
from implreg_book.widgets.controls import control, put, steps_of

from implreg.errors import InputError

pytestmark = pytest.mark.processes

CHAPTERS = ["width", "sgd", "regularisation", "one-dimension", "where-it-fails", "photographs"]


@pytest.fixture
def width(tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLREG_STORE", str(tmp_path / "runs"))
    monkeypatch.delenv("IMPLREG_RESULTS", raising=False)  # those of the book
    made = panel(find("width")())
    yield made
    made.close()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_controls_have_what_the_schema_says(chapter):
    made = panel(find(chapter)())
    assert made.parameters == find(chapter)()
    assert made.profile.value == "default"
    for name, one in find(chapter).schema().items():
        assert made.controls[name].description == name
        assert one.help in made.controls[name].tooltip


@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_profile_sets_all_controls(chapter, profile):
    made = panel(find(chapter)())
    made._ask = lambda **_: None  # not drawn here
    made.profile.value = profile
    assert made.parameters == find(chapter).of(profiles(chapter)[profile])
    assert made.profile.value == profile
    made.profile.value = "default"
    assert made.parameters == find(chapter)()


@pytest.mark.parametrize(
    ("one", "value"),
    [
        (Parameter("n", "int", 20, "n", low=1, high=10_000), 37),
        (Parameter("r", "float", 0.1, "r", low=1e-6, high=100), 0.037),
        (Parameter("z", "float", 0.2, "z", low=0, high=0.99), 0.0),
        (Parameter("l", "list[int]", [1, 2], "l", low=1, high=10_000), [3, 1000, 10_000]),
        (Parameter("f", "list[float]", [0.5], "f", low=1e-8, high=10), [1e-7, 2.0]),
        (Parameter("c", "str", "a", "c", choices=("a", "b")), "b"),
        (Parameter("d", "list[str]", ["a"], "d", choices=("a", "b")), ["a", "b"]),
        (Parameter("b", "bool", False, "b"), True),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_what_is_put_into_a_control_is_read_from_it(one, value):
    widget, read = control("width", one)
    assert read() == one.default
    put(widget, value)
    assert read() == value
    if one.of in ("int", "float") and not one.several:
        steps = steps_of(one)
        assert steps == sorted(set(steps)) and steps[0] == one.low and steps[-1] == one.high
        assert all(type(x).__name__ == one.type for x in steps)


def test_stored_runs_are_drawn_at_once_and_others_priced(width):
    assert "default" in width.profile.value
    width.controls["seeds"].value = 10
    wait_until(lambda: "prose" in width.answer)
    assert len(width.answer["figures"]) == 3 and len(width.answer["verdicts"]) == 3
    assert "Over 210\nrandom networks" in width.answer["prose"]
    assert len(width.result.children) == 1 + 3 + 3 + 2
    width.controls["seeds"].value = 10_000
    wait_until(lambda: "of CPU time" in width.status.value)
    assert width.profile.value == "(your own)"


def test_what_the_chapter_cannot_have_is_told_and_not_drawn(width):
    width.controls["widths"].value = "64"
    assert "widths of chapter width must be 2 or more whole numbers" in width.status.value
    width.controls["widths"].value = "64, x"
    assert "must be of type list[int]" in width.status.value
    with pytest.raises(InputError):
        _ = width.parameters
    width.run().join(60)
    assert "widths of chapter width must be" in width.status.value and not width.answer


def test_runs_can_be_stopped_and_go_on(width):
    width.profile.value = "smoke"
    width.controls["seeds"].value = 1000
    thread = width.run()
    wait_until(lambda: "/4000" in width.progress.value)
    width.stop()
    thread.join(60)
    assert "Stopped; what has finished is kept" in width.status.value
    assert width.halt.disabled
    width.controls["seeds"].value = 2
    width.run().join(120)
    assert "Drawn with what the controls say." in width.status.value


def test_a_page_without_a_kernel_shows_the_values(width):
    bundle = width._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    for name, value in find("width")().values().items():
        assert f"<code>{name}</code>" in data["text/html"] and in_words(value) in data["text/html"]


def test_prose_is_told_with_numbers():
    prose = "# T\n\nIt {glue:text}`a-b-x` {glue:text}`a-b-y` {term}`kink <k>`."
    told = with_numbers(prose, {"x": "rises", "y": "<5"})
    assert told == "<p>It rises &lt;5 kink.</p>\n"


def test_a_chapter_whose_code_is_in_its_notebook_is_run_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLREG_STORE", str(tmp_path / "runs"))
    chapters = tmp_path / "executed"
    chapters.mkdir()
    monkeypatch.chdir(tmp_path)  # not the folder of the book
    asked = {"chapter": "paper-in-ten-minutes", "values": {"chapters": str(chapters)}}
    answer = answer_to(asked | {"draw": True})
    assert "In short." in answer["prose"] and "{glue" not in answer["prose"]
    assert len(answer["verdicts"]) == 8 and answer["tables"]
    assert all(one["alt"] for one in answer["figures"])
