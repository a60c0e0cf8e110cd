"""The training player: its record, its page in a real browser, and what it refuses."""

import json
import re

import numpy as np
import pytest
import torch
import traitlets

pytest.importorskip("selenium", reason="tests in a browser need the extra test")

import _browser
from implreg_book.widgets import training_explorer
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import implreg as ir
from implreg.errors import InputError

EPOCHS = (0, 1, 2, 4)


@pytest.fixture(scope="module")
def recorded():
    random = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 3, 6, generator=random, dtype=torch.float64)
    pairs = ir.Pairs(x0, x1, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 0]), kind="random")
    net = ir.mlp(6, 24, 24, 3, seed=0, dtype=torch.float64)
    x, y = torch.cat([x0, x1]), torch.cat([pairs.y0, pairs.y1])
    traces, losses = {}, {}
    for epoch, _ in enumerate(ir.train(net, x, y, ir.SGD(0.1, epochs=4, warmup_epochs=0), seed=0)):
        if epoch in EPOCHS:
            traces[epoch], losses[epoch] = ir.trace(net, pairs), ir.evaluate(net, x, y)[0]
    return traces, pairs, losses


@pytest.fixture
def explorer(recorded):
    traces, pairs, losses = recorded
    return training_explorer(traces, pairs=pairs, losses=losses)


def expected(trace, pairs, pair, output, loss):
    one = trace[pair]
    return [
        ir.gap_deviation(one)[0, output], ir.deflection(one)[0, output],
        ir.mid_path_deflection(one)[0, output], ir.fluctuation(one)[0, output],
        ir.edge_margin(trace, pairs)[pair], loss,
    ]  # fmt: skip


def epoch_shown(browser):
    _browser.settle(browser)
    return int(
        re.search(r"Epoch ([\d,]+):", browser.find_element(By.CLASS_NAME, "sentence").text)[1]
    )


def slider(browser):
    return browser.find_element(By.CSS_SELECTOR, ".side input[type=range]")


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize("pair", [0, 2])
def test_the_page_shows_the_measures_of_every_epoch(browser, show, explorer, recorded, epoch, pair):
    traces, pairs, losses = recorded
    output = explorer.record["outputs"][pair][0]
    show(explorer, epoch=epoch, pair=pair, output=output)
    found = _browser.shown_numbers(browser)
    wanted = expected(traces[epoch], pairs, pair, output, losses[epoch])
    assert found == pytest.approx([float(x) for x in wanted], rel=6e-3)
    wanted = expected(traces[0], pairs, pair, output, losses[0])
    assert _browser.shown_numbers(browser, 1) == pytest.approx([float(x) for x in wanted], rel=6e-3)


def test_normalised_measures_are_those_of_the_normalised_trace(browser, show, explorer, recorded):
    traces, pairs, losses = recorded
    show(explorer)
    browser.find_element(By.CSS_SELECTOR, "input[type=checkbox]").send_keys(Keys.SPACE)
    relative = ir.normalize(traces[4], traces[0])
    wanted = expected(relative, pairs, 0, explorer.output, losses[4])
    assert _browser.shown_numbers(browser) == pytest.approx([float(x) for x in wanted], rel=6e-3)


def test_the_curve_is_the_recorded_output(browser, show, explorer, recorded):
    traces, _, _ = recorded
    show(explorer, epoch=2)
    path = traces[2][0]
    d = browser.find_element(By.CSS_SELECTOR, ".charts .curve").get_attribute("d")
    points = np.array([[float(x) for x in p.split()] for p in re.findall(r"[ML]([\d. -]+)", d)])
    t = np.append(path.piece_start, 1)
    values = np.append(path.values[:, explorer.output], path.ends[0, explorer.output])
    assert len(points) == len(t)
    for drawn, wanted in zip(points.T, (t, values), strict=True):
        scale, offset = np.polyfit(wanted, drawn, 1)
        assert np.abs(drawn - (scale * wanted + offset)).max() < 0.15  # pixels


def heights(browser, selector):
    """The last vertical position, in pixels, of each stroke of the paths of a chart."""
    found = browser.find_elements(By.CSS_SELECTOR, selector)
    return [re.findall(r"V(-?[\d.]+)", path.get_attribute("d")) for path in found]


@pytest.mark.parametrize("relative", [False, True])
def test_the_stems_are_the_recorded_gaps(browser, show, explorer, recorded, relative):
    traces, _, _ = recorded
    show(explorer, epoch=2, normalised=relative)
    path = (ir.normalize(traces[2], traces[0]) if relative else traces[2])[0]
    stems = heights(browser, ".charts .chart:nth-child(3) path[class^=layer]")
    assert len(stems) == 2
    drawn = np.array([float(y) for layer in stems for y in layer])
    gaps = path.gaps[:, explorer.output]
    wanted = torch.cat([gaps[path.layer == layer] for layer in (0, 1)]).numpy()
    scale, offset = np.polyfit(wanted, drawn, 1)
    assert scale < 0 and np.abs(drawn - (scale * wanted + offset)).max() < 0.15  # pixels


def test_the_steps_are_the_recorded_slopes(browser, show, explorer, recorded):
    traces, _, _ = recorded
    show(explorer, epoch=2)
    (steps,) = heights(browser, ".charts .chart:nth-child(2) .curve")
    wanted = traces[2][0].slopes[1:, explorer.output].numpy()
    drawn = np.array([float(y) for y in steps])
    scale, offset = np.polyfit(wanted, drawn, 1)
    assert scale < 0 and np.abs(drawn - (scale * wanted + offset)).max() < 0.15  # pixels


def test_the_keyboard_moves_the_epoch(browser, show, explorer):
    show(explorer)
    assert epoch_shown(browser) == 4
    slider(browser).send_keys(Keys.ARROW_LEFT)
    assert epoch_shown(browser) == 2
    slider(browser).send_keys(Keys.HOME)
    assert epoch_shown(browser) == 0
    assert slider(browser).get_attribute("aria-valuetext") == "0"


def test_pair_and_output_are_chosen(browser, show, explorer, recorded):
    traces, pairs, losses = recorded
    show(explorer)
    Select(browser.find_elements(By.TAG_NAME, "select")[0]).select_by_visible_text(
        "pair 1, classes 1 and 1"
    )
    _browser.settle(browser)
    Select(browser.find_elements(By.TAG_NAME, "select")[1]).select_by_index(1)
    output = explorer.record["outputs"][1][1]
    wanted = expected(traces[4], pairs, 1, output, losses[4])
    assert _browser.shown_numbers(browser) == pytest.approx([float(x) for x in wanted], rel=6e-3)


def test_a_chart_leads_to_the_recorded_epoch_nearest_to_the_mouse(browser, show, explorer):
    show(explorer)
    panel = browser.find_element(By.CSS_SELECTOR, ".small .panel")
    # Epochs 0 to 4 lie between margins of 54 and 10 pixels; nothing was recorded at 3.
    for wanted, at in ((1.2, 1), (2.9, 2), (3.2, 4)):
        inner = panel.size["width"] - 64
        place = 54 + inner * wanted / 4 - panel.size["width"] / 2
        ActionChains(browser).move_to_element_with_offset(panel, place, 0).click().perform()
        assert epoch_shown(browser) == at


def test_names_in_any_order_make_the_same_table(browser, show, explorer):
    def table():
        _browser.settle(browser)
        return browser.find_element(By.CSS_SELECTOR, ".numbers").text

    show(explorer)
    before = table()
    show(explorer, record=json.loads(json.dumps(explorer.record, sort_keys=True)))  # as nbformat
    assert table() == before
    assert before.index("gradient gap deviation") < before.index("edge margin")


def test_it_plays_to_the_end_and_pauses(browser, show, explorer):
    show(explorer, epoch=0)
    play = browser.find_element(By.CSS_SELECTOR, ".side button")
    assert play.text == "Play"
    play.send_keys(Keys.ENTER)
    WebDriverWait(browser, _browser.PATIENCE).until(lambda _: epoch_shown(browser) > 0)
    assert play.text == "Pause"
    play.click()
    at = epoch_shown(browser)
    assert play.text == "Play" and at < 4
    browser.execute_async_script("setTimeout(arguments[0], 900)")
    assert epoch_shown(browser) == at
    play.click()
    WebDriverWait(browser, _browser.PATIENCE).until(lambda _: epoch_shown(browser) == 4)
    WebDriverWait(browser, _browser.PATIENCE).until(lambda _: play.text == "Play")


def test_with_less_motion_it_goes_step_by_step(browser, show, explorer):
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        show(explorer, epoch=0)
        step = browser.find_element(By.CSS_SELECTOR, ".side button")
        assert step.text == "Next epoch"
        step.click()
        assert epoch_shown(browser) == 1
        browser.execute_async_script("setTimeout(arguments[0], 900)")
        assert epoch_shown(browser) == 1
        show(explorer, epoch=0, playing=True)  # as a notebook may ask
        browser.execute_async_script("setTimeout(arguments[0], 900)")
        assert epoch_shown(browser) == 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_scales_stay_fixed_over_epochs_unless_asked_otherwise(browser, show, explorer):
    def ticks():
        _browser.settle(browser)
        return [x.text for x in browser.find_elements(By.CSS_SELECTOR, ".charts .grid text")]

    show(explorer, epoch=0)
    before = ticks()
    slider(browser).send_keys(Keys.END)
    assert ticks() == before
    browser.find_elements(By.CSS_SELECTOR, "input[type=checkbox]")[1].send_keys(Keys.SPACE)
    assert ticks() != before


def test_a_path_without_switches_and_a_single_epoch_are_shown(browser, show):
    x = torch.ones(1, 6)
    trace = ir.trace(ir.mlp(6, 8, 2, seed=0), (x, x * 2))  # along a ray
    explorer = training_explorer({3: trace})
    show(explorer)
    _browser.assert_sound(browser)
    assert epoch_shown(browser) == 3


def test_outputs_that_are_zero_leave_no_normalised_view(browser, show):
    net = ir.mlp(6, 8, 2, seed=0)
    zero = ir.trace(net, (torch.zeros(1, 6), torch.ones(1, 6)))
    explorer = training_explorer({0: zero, 1: zero})
    assert explorer.record["growth"] is None
    show(explorer, normalised=True)
    assert len(browser.find_elements(By.CSS_SELECTOR, "input[type=checkbox]")) == 1
    _browser.assert_sound(browser)


def test_it_fits_a_phone(browser, show, explorer):
    show(explorer)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", _browser.PHONE)
    _browser.settle(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    _browser.assert_sound(browser)


# Python


def test_epochs_come_in_any_order_and_from_numpy(recorded):
    traces, _, losses = recorded
    mixed = {np.int64(epoch): traces[epoch] for epoch in (4, 0, 2, 1)}
    explorer = training_explorer(mixed, losses=losses)
    assert explorer.record["epochs"] == list(EPOCHS) and explorer.epoch == 4
    assert explorer.record == training_explorer(traces, losses=losses).record


def test_the_record_of_a_training_is_light():
    data = ir.load("digits", train=200)
    pairs = ir.pairs(data, kind="different", count=2, seed=0)
    trace = ir.trace(ir.mlp(64, 64, 64, data.classes, seed=0), pairs)
    explorer = training_explorer(dict.fromkeys(range(32), trace), pairs=pairs)
    assert trace.switches.sum() > 80
    assert len(json.dumps(explorer.page_state())) < 120_000


def test_what_the_reader_moves_arrives_in_python(explorer, recorded):
    explorer.set_state({"epoch": 2, "pair": 1})
    assert torch.equal(explorer.trace.t, recorded[0][2][1].t)


@pytest.mark.parametrize("name, value", [("epoch", 3), ("epoch", -1), ("pair", 3)])
def test_attributes_out_of_range_are_refused(explorer, name, value):
    with pytest.raises(traitlets.TraitError, match=name):
        setattr(explorer, name, value)


@pytest.mark.parametrize("traces", [{}, None, []])
def test_no_traces_are_refused(traces):
    with pytest.raises(InputError, match="traces must map at least one epoch"):
        training_explorer(traces)


def test_what_is_no_record_of_one_training_is_refused(recorded):
    traces, pairs, _ = recorded
    with pytest.raises(InputError, match=r"whole numbers, got 0\.5"):
        training_explorer({0.5: traces[0]})
    with pytest.raises(InputError, match="got int at epoch 1"):
        training_explorer({0: traces[0], 1: 5})
    with pytest.raises(InputError, match="got others at epoch 1"):
        training_explorer({0: traces[0], 1: traces[1][:2]})
    bent = ir.trace(ir.mlp(6, 8, 3, seed=0), ir.polyline(torch.randn(4, 6)))
    with pytest.raises(InputError, match="same straight paths"):
        training_explorer({0: bent})
    with pytest.raises(InputError, match=r"losses must have the epochs of the traces, \[0\]"):
        training_explorer({0: traces[0]}, losses={1: 0.5})
    with pytest.raises(InputError, match="pairs must be the 2 pairs"):
        training_explorer({0: traces[0][:2]}, pairs=pairs)
