"""Explorers of random networks, of growing width and depth: their numbers, and a real browser."""

import re

import numpy as np
import pytest
import torch
import traitlets

pytest.importorskip("selenium", reason="tests in a browser need the extra test")

import _browser
from _browser import as_javascript, assert_sound, settle, shown_numbers
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from implreg_book.widgets import depth_explorer, walk_explorer
from implreg_book.widgets.depth import random_order
from implreg_book.widgets.scripts import JS
from implreg_book.widgets.walk import samples, typical
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import implreg as ir
from implreg.widgets import random_network
from implreg.widgets.bundle import notebook_module, scope

ANGLES = (5, 45, 90, 150, 175)


def plane(angle):
    """The two samples in units of their norm, as the JavaScript has them."""
    return [(x[0] / 2**0.5).tolist() for x in samples(angle)]


def wide(depth):
    return ir.mlp(2, *[1] * depth, 1, seed=0)


# JavaScript


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(1, 200), angle=st.integers(1, 179), seed=st.integers(0, 10**6))
def test_the_quick_tracer_of_one_layer_is_the_tracer(script, width, angle, seed):
    net, ends = random_network(2, width, 1, seed=seed), samples(angle)
    path = ir.trace(net, ends)
    assume((path.t.diff() > 1e-12).all())
    found = script(
        "shallow.shallow(net, a, b)", net=as_javascript(net), a=ends[0][0].tolist(),
        b=ends[1][0].tolist(),
    )  # fmt: skip
    assert found["unit"] == path.unit.tolist() and found["segments"] == 1
    for name, wanted in (
        ("t", path.t), ("gaps", path.gaps[:, 0]), ("starts", path.piece_start),
        ("slopes", path.slopes[:, 0]), ("values", path.values[:, 0]),
    ):  # fmt: skip
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=1e-9)
    assert found["end"] == pytest.approx(float(path.ends), abs=1e-9)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_theory_is_that_of_the_package(script, angle, depth):
    a, b = plane(angle)
    t = torch.tensor([0.0, 0.1, 0.37, 0.5, 0.9, 1.0], dtype=torch.float64)
    found = script(
        "{ const line = theory.lineThrough(a, b); return ["
        "t.map((x) => t.map((y) => theory.slopeCovariance(line, depth, x, y))),"
        "t.map((x) => t.map((y) => theory.outputCovariance(line, depth, x, y))),"
        "t.map((x) => theory.chordDeviation(line, depth, x)),"
        "theory.midPathDeviation(line, depth)]; }",
        a=a, b=b, t=t.tolist(), depth=depth,
    )  # fmt: skip
    ends, net = samples(angle), wide(depth)
    s = t[:, None, None]
    slopes = ir.theory.slope_covariance(net, ends, s, t[:, None])[:, :, 0]
    outputs = ir.theory.output_covariance(net, ends, s, t[:, None])[:, :, 0]
    np.testing.assert_allclose(found[0], slopes, atol=1e-8)
    np.testing.assert_allclose(found[1], outputs, atol=1e-9)
    np.testing.assert_allclose(found[2], ir.theory.chord_deviation(net, ends, t)[0], atol=1e-7)
    prediction = ir.theory.at_initialisation(net, ends)
    assert found[3] == pytest.approx(float(prediction.mid_path_deflection), rel=1e-7)


@pytest.mark.parametrize("angle", ANGLES)
def test_the_walk_of_one_layer_has_the_variance_of_theory(script, angle):
    a, b = plane(angle)
    t = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)
    found = script(
        "t.map((x) => theory.walkVariance(theory.lineThrough(a, b), x))", a=a, b=b, t=t.tolist()
    )
    ends, zero = samples(angle), torch.zeros(1, dtype=torch.float64)

    def covariance(s, u):
        return ir.theory.slope_covariance(wide(1), ends, s, u)[..., 0]

    wanted = covariance(zero, zero) + covariance(t[:, None], t[:, None])
    wanted = wanted - 2 * covariance(zero, t[:, None])
    np.testing.assert_allclose(found, wanted, atol=1e-8)


def test_pooled_correlations_are_those_of_the_package(script):
    nets = [random_network(2, 30, 4, seed=seed) for seed in range(6)]
    ends = samples(100)
    traces = [ir.trace(net, ends) for net in nets]
    share = 0.25
    found = script(
        "{ const pool = new correlated.Pool([share]); for (const net of nets) "
        "pool.add(measures.ofOutput(tracer.trace(net, a, b), 0)); "
        "return [pool.summary(), pool.varianceRatios(), pool.ratio()]; }",
        nets=[as_javascript(net) for net in nets], a=ends[0][0].tolist(), b=ends[1][0].tolist(),
        share=share,
    )  # fmt: skip
    gaps = [path.gaps[:, 0] for path in traces]
    squares, switches = sum(float(g.square().sum()) for g in gaps), sum(len(g) for g in gaps)
    within = sum(
        float(g[path.layer == k].sum() ** 2) for g, path in zip(gaps, traces) for k in range(4)
    )
    ends_square = sum(float(g.sum() ** 2) for g in gaps)
    summary = found[0]
    assert summary["within"] == pytest.approx((within - squares) / squares)
    assert summary["between"] == pytest.approx((ends_square - within) / squares)
    assert summary["gapDeviation"] == pytest.approx((squares / switches) ** 0.5)
    bends = [float(ir.mid_path_deflection(path)) for path in traces]
    assert summary["midPath"] == pytest.approx(np.sqrt(np.mean(np.square(bends))))
    bridge = np.mean([4 * bend**2 / len(g) for bend, g in zip(bends, gaps)])
    assert summary["ratio"] == pytest.approx((bridge / (squares / switches)) ** 0.5)
    assert found[2][1] < summary["ratio"] < found[2][2]

    far, steps = 0.0, 0
    for path in traces:
        slopes, lag = path.slopes[:, 0], max(round(share * len(path.t)), 1)
        far += float((slopes[lag:] - slopes[:-lag]).square().sum())
        steps += lag * (len(slopes) - lag)
    assert found[1][0] == pytest.approx(far / steps / (squares / switches))
    lag = max(round(share * len(traces[0].t)), 1)
    alone = script(
        "{ const pool = new correlated.Pool([share]); "
        "pool.add(measures.ofOutput(tracer.trace(net, a, b), 0)); return pool.varianceRatios(); }",
        net=as_javascript(nets[0]), a=ends[0][0].tolist(), b=ends[1][0].tolist(), share=share,
    )  # fmt: skip
    assert alone[0] == pytest.approx(float(ir.measures.variance_ratio(traces[0], [lag])))


def test_gaps_are_shuffled_alike_in_both_languages(script):
    gaps = np.random.default_rng(0).normal(size=40)
    slopes = np.append(0, gaps.cumsum())
    found = script("correlated.shuffled({slopes, gaps}, 7)", slopes=slopes.tolist(),
                   gaps=gaps.tolist())  # fmt: skip
    np.testing.assert_allclose(found, np.append(0, gaps[random_order(40, 7)].cumsum()), atol=1e-12)


# On a page


def all_networks(browser):
    """Wait until all networks have been drawn."""
    WebDriverWait(browser, _browser.PATIENCE).until(
        lambda _: "100 networks" in browser.find_element(By.CSS_SELECTOR, ".numbers").text
    )


def walk_numbers(explorer):
    """What the table says of the bold network, and of all."""
    unit, traces = typical(explorer.angle), explorer.traces
    switches = [len(path.t) for path in traces]
    squares = [float(ir.quadratic_variation(path)) / unit**2 for path in traces]
    bends = [float(ir.fluctuation(path)) / unit for path in traces]
    rows = (
        (switches[0], np.mean(switches)),
        (np.sqrt(squares[0] / switches[0]), np.sqrt(sum(squares) / sum(switches))),
        (np.sqrt(squares[0]) / 2, np.sqrt(np.mean(squares)) / 2),
        (bends[0], np.mean(bends)),
    )
    return [list(column) for column in zip(*rows, strict=True)]


def test_the_walk_explorer_shows_the_numbers_of_the_package(browser, show):
    explorer = walk_explorer()
    show(explorer)
    bold, pooled = walk_numbers(explorer)
    assert shown_numbers(browser) == pytest.approx(list(bold), rel=6e-3)
    assert shown_numbers(browser, 1) == pytest.approx(list(pooled), rel=6e-3)
    theory = ir.theory.at_initialisation(ir.mlp(2, 16, 1, seed=0), samples(90))
    wanted = [theory.switches, theory.gap_deviation / typical(90), theory.deflection / typical(90)]
    assert shown_numbers(browser, 2)[:3] == pytest.approx([float(x) for x in wanted], rel=6e-3)


def test_the_walk_explorer_follows_the_keyboard(browser, show):
    explorer = walk_explorer()
    show(explorer)
    before = shown_numbers(browser, 1)
    width, angle = browser.find_elements(By.CSS_SELECTOR, "input[type=range]")
    width.send_keys(Keys.ARROW_RIGHT * 2)
    angle.send_keys(Keys.ARROW_LEFT)
    explorer.width, explorer.angle = 64, 85
    wanted = [float(x) for x in walk_numbers(explorer)[1]]
    assert shown_numbers(browser, 1) == pytest.approx(wanted, rel=6e-3)
    other, again = browser.find_elements(By.CSS_SELECTOR, ".implreg-explorer button")
    other.send_keys(Keys.ENTER)
    assert shown_numbers(browser, 1) != pytest.approx(wanted, rel=6e-3)
    again.send_keys(Keys.ENTER)
    assert shown_numbers(browser, 1) == before


def test_the_depth_explorer_shows_the_numbers_of_the_package(browser, show):
    explorer = depth_explorer()
    explorer.depth, explorer.width = 3, 16
    show(explorer)
    all_networks(browser)
    unit, traces = typical(90), explorer.traces
    squares = np.array([float(ir.quadratic_variation(path)) for path in traces]) / unit**2
    switches = np.array([len(path.t) for path in traces])
    bends = np.array([float(ir.mid_path_deflection(path)) for path in traces]) / unit
    some = switches > 0
    bridge = np.mean(4 * bends[some] ** 2 / switches[some])
    wanted = [switches.mean(), np.sqrt(squares.sum() / switches.sum()),
              np.sqrt(squares.mean()) / 2, np.sqrt(np.mean(bends**2)),
              np.sqrt(bridge / (squares.sum() / switches.sum()))]  # fmt: skip
    assert shown_numbers(browser, 1)[:5] == pytest.approx(wanted, rel=6e-3)
    theory = ir.theory.at_initialisation(ir.mlp(2, 16, 16, 16, 1, seed=0), samples(90))
    wanted = [theory.switches, theory.gap_deviation / unit, theory.deflection / unit,
              theory.mid_path_deflection / unit, theory.bridge_ratio]  # fmt: skip
    assert shown_numbers(browser, 2)[:5] == pytest.approx([float(x) for x in wanted], rel=6e-3)


def test_the_depth_explorer_follows_the_keyboard(browser, show):
    explorer = depth_explorer()
    show(explorer)
    depth = browser.find_element(By.CSS_SELECTOR, "input[type=range]")
    depth.send_keys(Keys.HOME)
    settle(browser)
    said = browser.find_element(By.CSS_SELECTOR, ".sentence").text
    assert said.startswith("1 hidden layer, ")
    shuffle, other, again = browser.find_elements(By.CSS_SELECTOR, ".implreg-explorer button")
    before = shown_numbers(browser)
    shuffle.send_keys(Keys.ENTER)
    settle(browser)
    assert browser.find_element(By.CSS_SELECTOR, ".sentence").text != said
    assert shown_numbers(browser)[:5] == before[:5]  # the same gaps in another order
    other.send_keys(Keys.ENTER)
    assert shown_numbers(browser)[:5] != before[:5]
    again.send_keys(Keys.ENTER)
    settle(browser)
    assert browser.find_element(By.CSS_SELECTOR, ".sentence").text.startswith("5 hidden layers, ")


@pytest.mark.parametrize("state", [{"width": 1}, {"angle": 1}, {"angle": 179}, {"width": 1024}])
def test_no_state_of_the_walk_explorer_shows_what_is_no_number(browser, show, state):
    show(walk_explorer(), **state)
    assert_sound(browser)


@pytest.mark.parametrize(
    "state",
    [{"width": 1, "depth": 1}, {"width": 1, "depth": 8}, {"angle": 1}, {"angle": 179, "depth": 8}],
)
def test_no_state_of_the_depth_explorer_shows_what_is_no_number(browser, show, state):
    show(depth_explorer(), **state)
    assert_sound(browser)
    all_networks(browser)
    assert_sound(browser)


@pytest.mark.parametrize("make", [walk_explorer, depth_explorer])
def test_they_fit_a_phone(browser, show, make):
    show(make())
    for width in (390, 320):
        screen = {**_browser.PHONE, "width": width}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        settle(browser)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


# Python


@pytest.mark.parametrize("name", ["walk", "depth", "training"])
def test_notebook_modules_have_no_imports_and_one_export(name):
    module = notebook_module(name, JS)
    assert not re.search(r"^\s*import ", module, re.MULTILINE)
    assert len(re.findall(r"^export ", module, re.MULTILINE)) == 1
    assert f"return {scope(name)}.render(context);" in module


@pytest.mark.parametrize(
    "make, name, value",
    [(walk_explorer, "width", 0), (walk_explorer, "width", 2000), (walk_explorer, "angle", 180),
     (depth_explorer, "depth", 9), (depth_explorer, "angle", 0), (depth_explorer, "seed", -1)],
)  # fmt: skip
def test_attributes_out_of_range_are_refused(make, name, value):
    with pytest.raises(traitlets.TraitError, match=name):
        setattr(make(), name, value)


@pytest.mark.parametrize("make", [walk_explorer, depth_explorer])
def test_the_still_says_what_it_shows(make):
    explorer = make()
    assert "random network" in explorer.still().alt
    explorer.width = 1
    assert explorer.still().svg.startswith("<svg")
