"""Explorers: their JavaScript against the package and in a real browser, and their Python side."""

import itertools
import json
import re
import time

import nbformat
import numpy as np
import papermill
import pytest
import torch
import traitlets
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("selenium", reason="tests in a browser need the extra test")

import _browser
from _browser import all_text, as_javascript, assert_sound, settle, shown_numbers
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import implreg as ir
from implreg.errors import InputError
from implreg.networks import Initialisation, mlp
from implreg.tracing import polyline, trace
from implreg.widgets import path_explorer, random_network
from implreg.widgets.bundle import JS, notebook_module, scope
from implreg.widgets.explorer import PAGE_TYPE

TOLERANCE = 1e-9


def ends(seed=0, paths=4, inputs=64):
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, paths, inputs, generator=random, dtype=torch.float64))


# JavaScript


networks = st.builds(
    lambda inputs, widths, outputs, sigma_b, seed: mlp(
        inputs, *widths, outputs, seed=seed, dtype=torch.float64,
        initialisation=Initialisation(sigma_b=sigma_b),
    ),
    inputs=st.integers(2, 6),  # with one and no biases all units switch together

    widths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    outputs=st.integers(1, 3),
    sigma_b=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10**6),
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(net=networks, seed=st.integers(0, 10**6), size=st.sampled_from([1e-3, 1.0, 1e3]))
@example(net=mlp(2, 64, 64, 1, seed=0, dtype=torch.float64), seed=0, size=1.0)
@example(net=mlp(3, 100, 100, 100, 2, seed=1, dtype=torch.float64), seed=1, size=1.0)
def test_the_javascript_tracer_is_the_tracer(script, net, seed, size):
    x0, x1 = (size * x for x in ends(seed, 1, net[0].in_features))
    expected = trace(net, (x0, x1))
    assume((expected.t.diff() > 1e-12).all())  # which of two is first would be left to rounding
    found = script("tracer.trace(net, a, b)", net=as_javascript(net), a=x0[0].tolist(),
                   b=x1[0].tolist())  # fmt: skip
    assert found["layer"] == expected.layer.tolist() and found["unit"] == expected.unit.tolist()
    for name, wanted in (
        ("t", expected.t), ("gaps", expected.gaps), ("starts", expected.piece_start),
        ("slopes", expected.slopes), ("values", expected.values), ("ends", expected.ends),
    ):  # fmt: skip
        wanted = wanted.flatten().numpy()
        scale = max(1.0, np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("a, b", [([1, 2], [1, 2]), ([1, 2], [-1, -2]), ([0, 0], [1, 0])])
def test_degenerate_paths(script, a, b):
    net = mlp(2, 16, 16, 1, seed=0, dtype=torch.float64)
    found = script("tracer.trace(net, a, b)", net=as_javascript(net), a=a, b=b)
    if a == b:
        assert not found["t"] and found["slopes"] == [0]
    elif a == [0, 0]:
        assert not found["t"]  # a network without biases is linear along a ray
    else:  # all units of a network without biases switch at once, at the origin
        both = torch.tensor([[a], [b]], dtype=torch.float64)
        assert len(found["t"]) == len(trace(net, tuple(both)).t) >= 16
        assert found["t"] == pytest.approx([0.5] * len(found["t"]))
        slopes = [found["slopes"][k] for k in (0, -1)]
        assert slopes == pytest.approx([-2 * found["values"][0], 2 * found["ends"][0]])
    assert all(np.isfinite(found[k]).all() for k in ("t", "slopes", "values", "ends", "gaps"))


def test_reversed_paths_have_reversed_gaps(script):
    net = as_javascript(mlp(3, 30, 30, 1, seed=2, dtype=torch.float64))
    a, b = [1.0, 0.2, -0.5], [-0.3, 0.9, 1.0]
    one = script("tracer.trace(net, a, b)", net=net, a=a, b=b)
    other = script("tracer.trace(net, a, b)", net=net, a=b, b=a)
    assert one["unit"] == other["unit"][::-1]
    assert one["t"] == pytest.approx([1 - t for t in reversed(other["t"])])
    assert one["gaps"] == pytest.approx(other["gaps"][::-1], abs=1e-12)


@pytest.mark.parametrize(
    "inputs, width, depth, scale, seed",
    [(2, 1, 1, 1.0, 0), (2, 40, 3, 0.5, 7), (5, 17, 2, 3.0, 2**31 - 1)],
)
def test_random_networks_are_the_same_in_both_languages(script, inputs, width, depth, scale, seed):
    found = script("network.randomNetwork({inputs, width, depth, scale, seed})", inputs=inputs,
                   width=width, depth=depth, scale=scale, seed=seed)  # fmt: skip
    net = random_network(inputs, width, depth, scale=scale, seed=seed)
    expected = as_javascript(net)
    assert [layer["outputs"] for layer in found] == [layer["outputs"] for layer in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one["weights"], other["weights"], rtol=1e-12, atol=1e-14)
        assert not any(one["biases"])


def test_random_weights_are_independent_standard_normal():
    from scipy.stats import kstest

    weights = [random_network(8, 64, 2, seed=seed)[2].weight.flatten() for seed in range(40)]
    drawn = torch.stack(weights).detach().numpy() * np.sqrt(64 / 2)
    assert kstest(drawn.flatten(), "norm").pvalue > 1e-3
    correlations = np.corrcoef(drawn)[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(drawn.shape[1])


def test_measures_and_expectations_agree_with_the_package(script):
    net = mlp(2, 50, 50, 3, seed=4, dtype=torch.float64)
    x0, x1 = ends(5, 1, 2)
    for output in range(3):
        found = script(
            "measures.measure(measures.ofOutput(tracer.trace(net, a, b), output))",
            net=as_javascript(net), a=x0[0].tolist(), b=x1[0].tolist(), output=output,
        )  # fmt: skip
        path = trace(net, (x0, x1))
        wanted = [path.switches[0], ir.gap_deviation(path)[0, output],
                  ir.deflection(path)[0, output], ir.mid_path_deflection(path)[0, output],
                  ir.fluctuation(path)[0, output]]  # fmt: skip
        names = ("switches", "gapDeviation", "deflection", "midPath", "fluctuation")
        shown = [found[name] for name in names]  # objects come back in another order
        assert shown == pytest.approx([float(x) for x in wanted], abs=1e-9)
    points = torch.tensor([[0.9, 0.1], [-0.4, 1.2]], dtype=torch.float64)
    for scale, depth in ((1.0, 1), (1.0, 3), (0.5, 2)):
        found = script(
            "theory.expected({start, end, width: 30, depth, scale})",
            start=points[0].tolist(), end=points[1].tolist(), depth=depth, scale=scale,
        )  # fmt: skip
        theory = ir.theory.at_initialisation(
            mlp(2, *[30] * depth, 1, seed=0), tuple(points[:, None] * 2**0.5),
            Initialisation(sigma_w=scale * 2**0.5),
        )  # fmt: skip
        for name, wanted in (
            ("switches", theory.switches), ("deflection", theory.deflection),
            ("gapDeviation", theory.gap_deviation),
        ):  # fmt: skip
            assert found[name] == pytest.approx(float(wanted.sum()), rel=1e-9), name


@pytest.mark.parametrize(
    "value, words",
    [(0, "0"), (-1.2345, "−1.23"), (1234.5, "1,235"), (1e30, "1.00 × 10³⁰"),
     (-2.5e-7, "−2.50 × 10⁻⁷"), (0.5, "0.5"), (None, "—")],
)  # fmt: skip
def test_numbers_are_written_for_readers(script, value, words):
    found = script("format.number(x === null ? NaN : x)", x=value)
    assert found.replace("\u202f", " ") == words


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6))
@example(low=-206.0, width=0.4)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_axes_hold_all_values_and_have_ticks(script, low, width):
    found = script("[r = panel.roundRange([a, b]), panel.ticks(...r, 4)]".replace("r =", "r ="),
                   a=low, b=low + width, r=None)  # fmt: skip
    (bottom, top), ticks = found
    assert bottom <= low and low + width <= top and 2 <= len(ticks) <= 9


# On a page


def measured(path, output=0):
    return [
        float(path.switches[0]), float(ir.gap_deviation(path)[0, output]),
        float(ir.deflection(path)[0, output]), float(ir.mid_path_deflection(path)[0, output]),
        float(ir.fluctuation(path)[0, output]),
    ]  # fmt: skip


def test_a_page_shows_the_numbers_of_the_package(browser, show):
    explorer = path_explorer()
    show(explorer)
    found = shown_numbers(browser)
    assert found == pytest.approx(measured(explorer.trace), rel=6e-3)


def test_a_network_of_the_readers_own_is_live_without_a_kernel(browser, show):
    net = mlp(64, 32, 32, 10, seed=0)
    explorer = path_explorer({"first": mlp(64, 32, 32, 10, seed=1), "second": net}, ends())
    show(explorer)
    output = explorer.output
    found = shown_numbers(browser)
    assert found == pytest.approx(measured(trace(net, ends())[0], output), rel=6e-3)
    choose = browser.find_elements(By.CSS_SELECTOR, "select")
    assert [len(one.find_elements(By.TAG_NAME, "option")) for one in choose] == [2, 4, 10]
    choose[1].send_keys(Keys.ARROW_DOWN)
    choose[0].send_keys(Keys.ARROW_UP)
    found = shown_numbers(browser)
    first = trace(mlp(64, 32, 32, 10, seed=1), ends())[1]
    assert found == pytest.approx(measured(first, output), rel=6e-3)


def handle(browser, name):
    return browser.find_element(By.CSS_SELECTOR, f"[aria-label='Sample {name}']")


def place(browser, name):
    settle(browser)
    words = handle(browser, name).get_attribute("aria-valuetext").replace("−", "-")
    return [float(x) for x in re.findall(r"-?\d+\.\d+", words)]


def test_samples_follow_the_mouse_and_stay_in_the_plane(browser, show):
    explorer = path_explorer()
    show(explorer)
    before = shown_numbers(browser)
    width = browser.find_element(By.CSS_SELECTOR, ".plane").size["width"]
    ActionChains(browser).drag_and_drop_by_offset(handle(browser, "A"), -0.1 * width, 0).perform()
    assert place(browser, "A") == pytest.approx([1 - 0.34, 0], abs=0.02)
    assert shown_numbers(browser) != before
    explorer.points = [place(browser, "A"), explorer.points[1]]
    found = shown_numbers(browser)
    assert found[0] == explorer.trace.switches
    # Far outside, and fast.
    ActionChains(browser, duration=0).drag_and_drop_by_offset(
        handle(browser, "A"), int(2 * width), int(width)
    ).perform()
    assert place(browser, "A") == [1.7, -1.7]
    assert_sound(browser)


def test_samples_follow_the_keyboard(browser, show):
    show(path_explorer())
    handle(browser, "B").send_keys(Keys.ARROW_LEFT * 3 + Keys.ARROW_UP)
    assert place(browser, "B") == pytest.approx([-0.36, 0.97])
    handle(browser, "B").send_keys(Keys.SHIFT, Keys.ARROW_DOWN)
    assert place(browser, "B") == pytest.approx([-0.36, 0.77])


def test_samples_follow_a_finger(browser, show):
    show(path_explorer())
    box = handle(browser, "A").rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]), ("touchMove", [{"x": x - 30, "y": y - 30}]),
        ("touchMove", [{"x": x - 40, "y": y - 40}]), ("touchEnd", []),
    ):  # fmt: skip
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    across, up = place(browser, "A")
    assert across < 0.7 and up > 0.3


def test_every_control_works_by_keyboard_and_start_again_undoes_it(browser, show):
    explorer = path_explorer()
    show(explorer)
    before = shown_numbers(browser)
    width, depth, scale, position = browser.find_elements(By.CSS_SELECTOR, "input[type=range]")
    width.send_keys(Keys.ARROW_RIGHT)
    depth.send_keys(Keys.ARROW_RIGHT)
    scale.send_keys(Keys.ARROW_LEFT)
    position.send_keys(Keys.PAGE_UP)
    explorer.width, explorer.depth, explorer.scale = 64, 3, 0.7
    found = shown_numbers(browser)
    assert found == pytest.approx(measured(explorer.trace), rel=6e-3)
    assert "t = 0.600" in all_text(browser)
    another, again = browser.find_elements(By.CSS_SELECTOR, ".implreg-explorer button")
    another.send_keys(Keys.ENTER)
    assert shown_numbers(browser)[0] > 0 and shown_numbers(browser) != before
    again.send_keys(Keys.SPACE)
    assert shown_numbers(browser) == before
    labels = browser.execute_script(
        "return [...document.querySelectorAll('input, select')].map((x) => x.labels.length)"
    )
    assert all(labels)


def test_the_sentence_is_true_at_t(browser, show):
    explorer = path_explorer()
    show(explorer, position=0.25)
    path = explorer.trace
    piece = int(torch.searchsorted(path.t, 0.25))
    said = browser.find_element(By.CSS_SELECTOR, ".sentence").text.replace("−", "-")
    assert f"t = 0.250: piece {piece + 1} of {len(path.slopes)}." in said
    assert f"unit {path.unit[piece]} of layer {path.layer[piece] + 1} switches" in said
    value = path.at(torch.tensor([0.25]))[0, 0]
    assert f"The output is {value:.3g}, its slope {path.slopes[piece, 0]:.3g}." in said


ABUSE = {
    "on top of each other": {"points": [[0.5, 0.5], [0.5, 0.5]]},
    "through the origin": {"points": [[1, 0], [-1, 0]]},
    "both at the origin": {"points": [[0, 0], [0, 0]]},
    "one unit": {"width": 1, "depth": 1},
    "one unit, deep": {"width": 1, "depth": 6},
    "small": {"scale": 1e-9, "depth": 6},
    "large": {"scale": 1e9, "depth": 6},
    "overflowing": {"scale": 1e200, "depth": 6},
    "underflowing": {"scale": 1e-200, "depth": 6},
    "large network": {"width": 256, "depth": 2},
    "far outside": {"points": [[1e6, 0], [0, -1e6]]},
    "position beyond the end": {"position": 7},
}


@pytest.mark.parametrize("state", ABUSE.values(), ids=ABUSE)
def test_no_state_leaves_the_page_blank_or_shows_what_is_no_number(browser, show, state):
    show(path_explorer(), **state)
    assert_sound(browser)


def test_it_fits_a_phone_and_a_resized_window(browser, show):
    show(path_explorer(mlp(64, 16, 10, seed=0), ends()))
    for screen in (_browser.PHONE, {**_browser.PHONE, "width": 320}, _browser.DESKTOP):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        settle(browser)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= screen["width"]
        assert_sound(browser)


@pytest.mark.parametrize("broken", ["javascript", "svg"])
def test_without_javascript_or_svg_the_picture_stays(browser, tmp_path, broken):
    address = _browser.explorer_page(path_explorer(), tmp_path)
    if broken == "javascript":
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        added = None
    else:
        added = browser.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument",
            {"source": "document.createElementNS = undefined;"},
        )["identifier"]
    try:
        browser.get(address)
        time.sleep(0.5)  # an explorer that could be mounted would be
        still = browser.find_element(By.CSS_SELECTOR, "img[alt=still]")
        assert still.is_displayed() and still.size["width"] > 100
        assert not browser.find_elements(By.CSS_SELECTOR, ".implreg-explorer")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        if added:
            browser.execute_cdp_cmd(
                "Page.removeScriptToEvaluateOnNewDocument", {"identifier": added}
            )
        browser.get_log("browser")


def test_on_paper_there_is_the_picture(browser, show):
    show(path_explorer())
    still = browser.find_element(By.CSS_SELECTOR, "img[alt=still]")
    assert not still.is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert still.is_displayed()
        assert not browser.find_element(By.CSS_SELECTOR, ".implreg-explorer").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


# Python


def test_notebook_modules_have_no_imports_and_one_export():
    module = notebook_module("path")
    assert not re.search(r"^\s*import ", module, re.MULTILINE)
    assert len(re.findall(r"^export ", module, re.MULTILINE)) == 1
    assert f"return {scope('path')}.render(context);" in module
    assert {path.suffix for path in JS.iterdir()} == {".js", ".css"}


def test_what_the_reader_moves_arrives_in_python():
    explorer = path_explorer(mlp(64, 16, 10, seed=0), ends())
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]), "points")
    explorer.set_state({"points": [[1, 0.5], [0, 1]], "pair": 1})  # what a front end does
    assert seen == [[[1.0, 0.5], [0.0, 1.0]]] and explorer.pair == 1
    start, end = (x[1] for x in ends())
    moved = explorer.trace
    assert moved.lengths[0] == pytest.approx(
        float(explorer.given["unit"] * np.hypot(1, 0.5)), rel=1e-6
    )
    assert torch.linalg.matrix_rank(torch.stack([start, end])) == 2


def test_points_of_a_pair_are_its_samples():
    net, (x0, x1) = mlp(64, 16, 10, seed=0), ends()
    explorer = path_explorer(net, (x0, x1))
    assert torch.allclose(explorer.trace.t, trace(net, (x0, x1))[0].t, atol=1e-9)
    explorer.pair, explorer.points = 2, explorer.given["points"][2]
    assert torch.allclose(explorer.trace.t, trace(net, (x0, x1))[2].t, atol=1e-9)


def test_parallel_samples_have_a_plane_too():
    x = ends()[0]
    explorer = path_explorer(mlp(64, 16, 10, seed=0), (x, 2 * x))
    assert len(explorer.trace.t) == 0
    explorer.points = [[1, 0], [0, 1]]
    assert len(explorer.trace.t) > 0


def test_other_networks_are_traced_by_python_at_every_move():
    net, (x0, x1) = ir.residual_mlp(64, 16, 2, 10, seed=0), ends()
    explorer = path_explorer(net, (x0, x1))
    assert not explorer.given and explorer.traced["layers"] == len(trace(net, (x0, x1)).layers)
    first = explorer.traced["t"]
    explorer.pair = 1
    assert explorer.traced["t"] != first
    assert torch.allclose(explorer.trace.t, trace(net, (x0, x1))[1].t, atol=1e-9)
    second = explorer.traced["t"]
    explorer.points = [[0.1, 0.9], explorer.points[1]]
    assert explorer.traced["t"] != second


def test_a_traced_path_is_shown_as_it_is_and_stands_still(browser, show):
    net = ir.residual_mlp(64, 16, 2, 10, seed=0)
    explorer = path_explorer(net, ends(), output=3)
    show(explorer)
    found = shown_numbers(browser)
    assert found == pytest.approx(measured(trace(net, ends())[0], 3), rel=6e-3)
    before = place(browser, "A")
    handle(browser, "A").send_keys(Keys.ARROW_LEFT)
    assert place(browser, "A") == before


def test_a_polyline_is_explored_to_its_end_with_its_corners(browser, show):
    net, points = mlp(64, 8, 10, seed=0), torch.randn(4, 64, generator=torch.Generator())
    explorer, path = path_explorer(net, polyline(points)), trace(net, polyline(points))
    knots = [*path.piece_start.tolist(), 3.0]
    ending = {"switches": 0, "corner": 0, "No unit switches after it": 0}
    for a, b in itertools.pairwise(knots):
        if b - a < 2e-3:  # the slider's own steps are a thousandth
            continue
        show(explorer, position=(a + b) / 2)
        said = browser.find_element(By.CSS_SELECTOR, ".sentence").text
        ending[next(words for words in reversed(ending) if words in said)] += 1
        assert_sound(browser)
        if sum(ending.values()) > 12 and ending["corner"]:
            break
    assert ending["switches"] and ending["corner"]


def test_it_displays_as_widget_page_and_still_picture():
    explorer = path_explorer()
    data, metadata = explorer._repr_mimebundle_()
    view = "application/vnd.jupyter.widget-view+json"
    assert set(data) == {view, PAGE_TYPE, "image/svg+xml", "image/png", "text/plain"}
    assert data[view]["model_id"] == explorer.model_id
    assert metadata["implreg"]["alt"].startswith("Outputs and slopes along one path")
    state = data[PAGE_TYPE]["state"]
    assert json.loads(json.dumps(state)) == state
    assert set(state) == {"points", "position", "width", "depth", "scale", "seed", "choice",
                          "pair", "output", "given", "traced"}  # fmt: skip


@pytest.mark.parametrize("output", [10, -1, 1.5, "3", True])
def test_an_output_that_is_not_there_is_refused(output):
    with pytest.raises(InputError, match=r"output must be a whole number from 0 to 9, got .*"):
        path_explorer(mlp(64, 8, 10, seed=0), ends(), output=output)


@pytest.mark.parametrize("paths", [torch.zeros(2, 64), (torch.zeros(2, 64),)])
def test_paths_that_are_none_are_refused(paths):
    with pytest.raises(InputError, match="paths must be"):
        path_explorer(mlp(64, 8, 10, seed=0), paths)


def test_half_of_the_arguments_and_unlike_networks_are_refused():
    with pytest.raises(InputError, match="net and paths must be given together"):
        path_explorer(mlp(64, 8, 10, seed=0))
    with pytest.raises(InputError, match="net and paths must be given together"):
        path_explorer(None, ends())
    with pytest.raises(InputError, match="networks of one shape"):
        path_explorer({"a": mlp(64, 8, 10, seed=0), "b": mlp(64, 8, 8, 10, seed=0)}, ends())
    with pytest.raises(InputError, match="at least one network"):
        path_explorer({}, ends())


@pytest.mark.parametrize(
    "name, value",
    [("width", 0), ("width", 257), ("depth", 7), ("scale", float("nan")), ("scale", 0),
     ("seed", -1), ("position", -0.1), ("points", [[0, 1]]), ("points", [[0, 1], [2, "x"]]),
     ("points", [[0, 1], [2, float("inf")]])],
)  # fmt: skip
def test_attributes_out_of_range_are_refused(name, value):
    with pytest.raises(traitlets.TraitError, match=name):
        setattr(path_explorer(), name, value)


@pytest.mark.pages
def test_papermill_runs_a_notebook_with_the_explorer(tmp_path):
    cells = [
        "import torch\nfrom implreg.networks import mlp\n"
        "from implreg.widgets import path_explorer\nnet = mlp(4, 16, 3, seed=0)",
        "explorer = path_explorer(net, (torch.zeros(2, 4) + 0.1, torch.eye(4)[:2]))\nexplorer",
        "explorer.points = [[1, 0], [0, 1]]\nprint(len(explorer.trace.t))",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    source, target = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(notebook, source)
    papermill.execute_notebook(
        source, target, execution_timeout=600, start_timeout=600, progress_bar=False
    )
    done = nbformat.read(target, as_version=4)
    (shown,) = done.cells[1].outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    assert shown.data[PAGE_TYPE]["explorer"] == "path"
    assert shown.data["image/svg+xml"].startswith("<svg")
    assert "Outputs and slopes" in shown.metadata["implreg"]["alt"]
    (printed,) = done.cells[2].outputs
    assert int(printed.text) > 0
