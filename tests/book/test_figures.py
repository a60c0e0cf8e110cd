import itertools
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from implreg_book import figures
from implreg_book.evidence.statistics import Estimate, mean_interval
from implreg_book.figures import intervals
from matplotlib import pyplot as plt
from matplotlib.figure import Figure as Canvas
from nbclient import NotebookClient

from implreg.errors import InputError
from implreg.figures import plot_gaps, plot_path, show, style
from implreg.figures.display import CATEGORIES, STEPS, THEMED
from implreg.figures.paths import draw_gaps, draw_outputs, draw_slopes, knots_of
from implreg.figures.samples import plot_samples
from implreg.networks import mlp
from implreg.sampled import sample
from implreg.tracing import polyline, trace

PAGES = {0: "#ffffff", 1: "#14181e"}  # the book's light and dark page


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def widths() -> pd.DataFrame:
    """Exactly width ** -0.5, times a factor per seed, for two depths."""
    return pd.DataFrame(
        [
            {"width": n, "depth": depth, "seed": seed, "gap": depth * (1 + seed / 10) * n**-0.5,
             "flat": 2.0 + seed}
            for n in (64, 256, 1024) for depth in (1, 2) for seed in range(5)
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def one_path():
    random = torch.Generator().manual_seed(0)
    ends = tuple(torch.randn(2, 16, generator=random) for _ in range(2))
    return trace(mlp(16, 32, 32, 5, seed=0), ends)[0]


def minus(value: torch.Tensor) -> str:
    return f"{value:.3g}".replace("-", "−")


def custom_properties(svg: str) -> set[str]:
    return set(re.findall(r"var\((--[\w-]+)\)", svg))


# ------------------------------------------------------------------ the look


@pytest.mark.parametrize("theme", [0, 1])
def test_every_colour_stands_out_from_the_page(theme):
    for name, pair in THEMED.items():
        assert contrast(pair[theme], PAGES[theme]) >= 3, name
    assert contrast(THEMED["ink"][theme], PAGES[theme]) >= 7  # text


@pytest.mark.parametrize("theme", [0, 1])
def test_categories_differ_for_the_colour_blind(theme):
    # Simulated deuteranopia and protanopia (Machado et al. 2009), then distance in CIE L*a*b*.
    deficient = [
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]],
    ]  # fmt: skip
    to_xyz = np.array([[0.412, 0.358, 0.18], [0.213, 0.715, 0.072], [0.019, 0.119, 0.95]])

    def lab(rgb: np.ndarray) -> np.ndarray:
        x, y, z = np.cbrt(to_xyz @ rgb.clip(0, 1) / [0.9505, 1.0, 1.089])
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    colours = [THEMED[f"category-{i}"][theme] for i in range(1, 5)]
    for matrix in deficient:
        seen = [lab(np.array(matrix) @ linear(colour)) for colour in colours]
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(one - other) > 10


def test_steps_move_away_from_the_page_in_both_themes():
    for theme, page in PAGES.items():
        steps = [contrast(THEMED[f"step-{i}"][theme], page) for i in range(1, 7)]
        assert steps == sorted(steps)


def test_each_light_colour_is_used_once():
    assert len({light for light, _ in THEMED.values()}) == len(THEMED)
    assert len(CATEGORIES) == len(STEPS) == 6


# ------------------------------------------------------------------ show


def test_show_gives_one_svg_for_both_themes_and_a_png(widths):
    figure = figures.plot_against(widths, "width", "gap", log="xy")
    root = ET.fromstring(figure.svg)
    assert root.attrib["role"] == "img"
    assert root.find("{http://www.w3.org/2000/svg}title").text == figure.alt
    assert "@media (prefers-color-scheme:dark)" in figure.svg
    body = figure.svg.split("</style>", 1)[1]
    assert not re.search(r"(fill|stroke): ?#(?!none)", body), "a colour that no theme changes"
    used = custom_properties(figure.svg)
    assert {"--ink", "--muted", "--category-1"} <= used
    assert used <= {f"--{name}" for name in THEMED}
    assert "<text" not in body  # letters are outlines: the same on every machine
    assert figure.png.startswith(b"\x89PNG")
    width, height = (int.from_bytes(figure.png[i : i + 4]) for i in (16, 20))
    assert (width, height) == pytest.approx((2 * figure.size[0], 2 * figure.size[1]), abs=2)


def test_the_same_data_give_the_same_bytes(widths):
    first, second = (figures.plot_against(widths, "width", "gap", by="depth") for _ in range(2))
    assert first == second
    assert "<dc:date>" not in first.svg


def test_the_users_settings_stay(widths, one_path):
    before = dict(mpl.rcParams)
    figures.plot_compare(widths, "depth", "gap")
    plot_path(one_path)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_show_takes_a_figure_made_with_pyplot_and_closes_it():
    with style():
        fig, axes = plt.subplots()
        axes.plot([0, 1], [1, 0], color="black")
    figure = show(fig, alt="A line <falls> & ends.")
    assert plt.get_fignums() == []
    assert ET.fromstring(figure.svg)[0].text == "A line <falls> & ends."


@pytest.mark.parametrize("fig, alt", [("no figure", "words"), (mpl.figure.Figure(), "  ")])
def test_show_refuses(fig, alt):
    with pytest.raises(InputError, match=r"^(fig|alt) must be .*\.$"):
        show(fig, alt=alt)


@pytest.mark.pages
def test_an_executed_notebook_keeps_pictures_and_alt_text():
    cell = (
        "import pandas as pd\nfrom implreg_book.figures import plot_z\n"
        "plot_z(pd.DataFrame({'case': ['a', 'b'], 'z': [0.5, -1.5]}))"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, timeout=600, startup_timeout=600).execute()
    (output,) = notebook.cells[0].outputs
    assert {"image/svg+xml", "image/png", "text/plain"} == set(output.data)
    alt = output.metadata["implreg"]["alt"]
    assert alt.startswith("Dot plot of 2 z-scores") and "−1.5 (b)" in alt
    assert output.metadata["image/png"]["width"] == 634


# ------------------------------------------------------------------ figures of tables


def test_alt_text_of_plot_against_is_made_from_the_data(widths):
    theory = pd.DataFrame({"width": [64, 256, 1024], "gap": [0.15, 0.075, 0.0375]})
    part = widths[widths.depth == 1]
    alt = figures.plot_against(part, "width", "gap", theory=theory, log="xy").alt
    estimate = mean_interval(part[part.width == 64].gap)
    assert f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})" in alt
    assert "from 64 to 1,024" in alt and "to the power −0.5" in alt and "5 seeds" in alt
    assert "at most 0 % from theory" in alt  # 1.2 / sqrt(width) is the mean over the seeds
    off = theory.assign(gap=1.25 * theory.gap)
    assert "20 % from theory" in figures.plot_against(part, "width", "gap", theory=off).alt


def test_plot_against_names_groups_and_panels(widths):
    alt = figures.plot_against(widths, "width", ["gap", "flat"], by="depth").alt
    for piece in ("Gap: depth 1 from 0.15", "depth 2 from 0.3", "Flat: depth 1 from 4"):
        assert piece in alt


def test_plot_against_tells_of_a_peak_inside():
    epochs = np.arange(0, 101, 10)
    table = pd.DataFrame(
        [{"epoch": e, "seed": s, "bend": 5 - abs(e - 40) / 20 + s / 100}
         for e in epochs for s in range(3)]
    )  # fmt: skip
    alt = figures.plot_against(table, "epoch", "bend").alt
    assert "highest 5.01 at 40" in alt and "lowest" not in alt


def test_one_seed_has_no_interval(widths):
    alone = widths[widths.seed == 0]
    alt = figures.plot_against(alone, "width", "gap", by="depth", log="x").alt
    assert "one seed" in alt and "nan" not in alt
    assert "nan" not in figures.plot_compare(alone, "depth", "gap").alt


def test_theory_may_differ_between_groups(widths):
    theory = widths[widths.seed == 2].drop(columns=["seed", "flat"])
    alt = figures.plot_against(widths, "width", ["gap", "flat"], by="depth", theory=theory).alt
    assert alt.count("at most 0 % from theory") == 2


def test_plot_compare(widths):
    table = widths.assign(start=np.where(widths.depth == 1, "He", "large"))
    alt = figures.plot_compare(table, "start", ["flat", "gap"]).alt
    assert figures.plot_compare(table, "start", ["flat", "gap"], log=True).alt == alt
    assert "He 4 (2.04 to 5.96)" in alt and "large 4 (2.04 to 5.96);" in alt


def test_plot_z_counts_what_lies_outside():
    table = pd.DataFrame({"case": ["L = 1", "L = 2"] * 2, "z": [0.1, -4.2, 2.0, 1.0],
                          "of": ["E[M]"] * 2 + ["E[V]"] * 2})  # fmt: skip
    alt = figures.plot_z(table, by="of").alt
    assert "3 of 4 lie within −3 to 3" in alt and "−4.2 (E[M], L = 2)" in alt


def test_many_epochs_stay_small():
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [{"epoch": e, "seed": s, "width": w, "y": 1 + random.random()}
         for e in range(126) for s in range(5) for w in range(4)]
    )  # fmt: skip
    assert len(figures.plot_against(table, "epoch", "y", by="width").svg) < 300_000


@pytest.mark.parametrize(
    "message, arguments",
    [
        ("table must have a column 'height', but", {"y": "height"}),
        ("table must be a pandas DataFrame", {"table": [1, 2]}),
        ("table must be a pandas DataFrame", {"table": pd.DataFrame()}),
        ("log must be one of", {"log": "yx"}),
        ("ylabel must name each of the 1 columns", {"ylabel": ["a", "b"]}),
        ("theory must have a column 'width'", {"theory": pd.DataFrame({"gap": [1.0]})}),
        ("theory must have a column 'gap'", {"theory": pd.DataFrame({"width": [1.0]})}),
    ],
)
def test_plot_against_refuses(widths, message, arguments):
    given = {"table": widths, "x": "width", "y": "gap"} | arguments
    with pytest.raises(InputError) as refusal:
        figures.plot_against(**given)
    assert str(refusal.value).startswith(message) and str(refusal.value).endswith(".")


def test_values_that_cannot_be_drawn_are_refused(widths):
    diverged = widths.assign(gap=widths.gap.where(widths.seed > 0))
    with pytest.raises(InputError, match="finite numbers, but 6 of its 30 rows"):
        figures.plot_against(diverged, "width", "gap")
    with pytest.raises(InputError, match="above 0 on a logarithmic axis, but 6 of its 30"):
        figures.plot_against(widths.assign(gap=widths.seed), "width", "gap", log="y")
    with pytest.raises(InputError, match="at most 6 different values to be told apart, got 30"):
        figures.plot_against(widths.assign(run=range(30)), "width", "gap", by="run")


# ------------------------------------------------------------------ figures of one path


def test_plot_path_says_what_the_trace_holds(one_path):
    alt = plot_path(one_path, [3], deflection=True).alt
    switches, slope = int(one_path.switches), one_path.slopes[:, 3]
    assert f"with {switches} breakpoints ({int((one_path.layer == 0).sum())} of layer 1" in alt
    assert f"from {minus(one_path.values[0, 3])} to {minus(one_path.ends[0, 3])}," in alt
    bend = slope[switches // 2] - (slope[0] + slope[-1]) / 2
    assert f"mid-path deflection {minus(bend)}" in alt
    deviation = one_path.gaps[:, 3].square().mean().sqrt()
    assert f"gradient gap deviation {deviation:.3g}" in alt


def test_plot_path_shows_the_three_largest_outputs_by_default(one_path):
    largest = one_path.values.max(dim=0).values.topk(3).indices
    alt = plot_path(one_path).alt
    assert all(f"Output {c} goes" in alt for c in largest.tolist()) and alt.count("goes") == 3


def test_plot_gaps(one_path):
    figure = plot_gaps(one_path, 2)
    gaps = one_path.gaps[:, 2]
    assert f"{int((gaps > 0).sum())} of {len(gaps)} are positive" in figure.alt
    assert {"--step-1", "--step-6"} <= custom_properties(figure.svg)


def test_a_path_without_switches_can_be_drawn():
    net = mlp(2, 4, 1, seed=0)
    net[0].bias.data += 100.0
    flat = trace(net, (torch.zeros(1, 2), torch.ones(1, 2)))[0]
    assert "with 0 breakpoints" in plot_path(flat, deflection=True).alt
    assert "with 0 breakpoints" in plot_gaps(flat).alt


def test_thousands_of_breakpoints_stay_small():
    random = torch.Generator().manual_seed(0)
    ends = tuple(torch.randn(1, 8, generator=random) for _ in range(2))
    path = trace(mlp(8, 6000, 3, seed=0), ends)
    assert path.switches.item() > 2000
    assert len(plot_path(path).svg) < 300_000
    assert len(plot_gaps(path).svg) < 300_000


@pytest.mark.parametrize("points, outputs", [(3, 1), (200, 5), (5000, 300)])
def test_samples_of_a_path_are_drawn(points, outputs):
    random = torch.Generator().manual_seed(0)
    x0, x1 = (torch.randn(2, 8, generator=random, dtype=torch.float64) for _ in range(2))
    net = mlp(8, 500, outputs, seed=0).double()
    samples = sample(net, (x0, x1), points=points)
    t = samples.t[:, None, None]
    values = net((1 - t) * x0 + t * x1).transpose(0, 1).detach()
    figure = plot_samples(samples, values, 1)
    assert len(figure.svg) < 300_000
    assert f"sampled at {points:,} positions" in figure.svg
    assert f"with {int(samples.counts[1].sum())} switches" in figure.alt
    drawn = values[1].max(dim=0).values.topk(min(3, outputs)).indices.sort().values.tolist()
    assert figure.alt.count(" goes from ") == len(drawn)
    for c in drawn:
        name = "The output" if outputs == 1 else f"Output {c}"
        assert f"{name} goes from {minus(values[1, 0, c])} to {minus(values[1, -1, c])}" in (
            figure.alt
        )
        slope = samples.slopes[1, :, c]
        assert f"lies between {minus(slope.min())} and {minus(slope.max())}." in figure.alt


def test_samples_that_cannot_be_drawn_are_refused():
    samples = sample(mlp(4, 8, 2, seed=0), (torch.zeros(3, 4), torch.ones(3, 4)), points=5)
    with pytest.raises(
        InputError, match=r"values must have the shape .* \(3, 5, 2\), got \(5, 2\)"
    ):
        plot_samples(samples, samples.slopes[0])
    for path in (-1, 3, True, 0.5):
        with pytest.raises(InputError, match="path must be a number from 0 to 2"):
            plot_samples(samples, samples.slopes, path)
    with pytest.raises(InputError, match="outputs must be 1 to 6 different numbers"):
        plot_samples(samples, samples.slopes, 0, [2])


def test_paths_that_cannot_be_drawn_are_refused(one_path):
    several = trace(mlp(4, 8, 2, seed=0), (torch.zeros(3, 4), torch.ones(3, 4)))
    for draw in (plot_path, plot_gaps):
        with pytest.raises(InputError, match=r"got 3 paths; write for example trace\[0\]\.$"):
            draw(several)
    for outputs in ([], [5], [-1], [1, 1], [0.5], [True]):
        with pytest.raises(InputError, match="outputs must be 1 to 6 different numbers"):
            plot_path(one_path, outputs)


def test_a_polyline_is_drawn_with_its_corners():
    points = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    net = mlp(8, 30, 3, seed=0)
    path = trace(net, polyline(points, closed=True))
    figure = plot_path(path)
    assert "one path of 4 straight segments from t = 0 to 4" in figure.alt
    assert "from its chords" in figure.alt
    knots, values, slopes = knots_of(path)
    assert len(knots) == len(values) == len(slopes) + 1 == len(path.t) + 5
    assert knots[-1] == 4 and (np.diff(knots) >= 0).all()
    np.testing.assert_allclose(np.diff(values, axis=0), slopes * np.diff(knots)[:, None], atol=1e-9)
    assert "against position t from 0 to 4" in plot_gaps(path).alt
    with pytest.raises(InputError, match="deflection must be False for a polyline"):
        plot_path(path, deflection=True)


@pytest.mark.parametrize("corners", [0, 3])
def test_every_segment_has_its_chord_and_every_corner_a_line(corners):
    points = torch.randn(corners + 2, 8, generator=torch.Generator().manual_seed(0))
    net = mlp(8, 30, 3, seed=0).double()
    path = trace(net, polyline(points))
    for draw in (draw_outputs, draw_slopes, draw_gaps):
        panel = Canvas().add_subplot()
        draw(panel, path, 1 if draw is draw_gaps else [1])
        assert panel.get_xlim() == (0, corners + 1)
        upright = [line for line in panel.lines if list(line.get_ydata()) == [0, 1]]
        assert [line.get_xdata()[0] for line in upright] == list(range(1, corners + 1))
        if draw is draw_outputs:
            (chord,) = (line for line in panel.lines if line.get_linestyle() == "--")
            assert list(chord.get_xdata()) == list(range(corners + 2))
            own = net(points.double())[:, 1].detach()
            np.testing.assert_allclose(chord.get_ydata(), own, atol=1e-12)


def test_ratios_are_drawn_full_or_hollow_and_told():
    ratios = {
        "deflection": {
            "step 0.3": Estimate(0.8, 0.7, 0.9, 8),
            "step 1": Estimate(np.nan, np.nan, np.nan, 0),
            "batch 8": Estimate(1.1, 0.9, 1.3, 8),
        }
    }
    figure = figures.plot_ratios(ratios)
    for told in ("step 0.3 0.8 (0.7 to 0.9)", "step 1 no run", "batch 8 1.1 (0.9 to 1.3)"):
        assert told in figure.alt
    assert figure.svg.startswith("<")


def test_dots_are_full_only_where_an_interval_is_apart(monkeypatch):
    drawn = []
    monkeypatch.setattr(intervals, "show", lambda canvas, **_: drawn.append(canvas))
    figures.plot_ratios(
        {
            "deflection": {
                "apart": Estimate(0.8, 0.7, 0.9, 8),
                "contains": Estimate(1.1, 0.9, 1.3, 8),
                "one seed": Estimate(1.1, np.nan, np.nan, 1),
            }
        }
    )
    (panel,) = drawn[0].axes
    dots = [line for line in panel.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() == "none" for dot in dots] == [False, True, True]


def test_correlations_are_drawn_from_minus_one_to_one():
    found = {"all runs": {"deflection": Estimate(0.5, 0.2, 0.7, 40),
                          "switches": Estimate(-0.1, -0.4, 0.2, 40)}}  # fmt: skip
    figure = figures.plot_correlations(found, of="correlations with the test error")
    assert "correlations with the test error" in figure.alt
    assert "deflection 0.5 (0.2 to 0.7)" in figure.alt


@pytest.mark.parametrize("groups", [{}, {"a": {}}, {"a": {"x": None}, "b": {"y": None}}])
def test_estimates_with_different_rows_are_refused(groups):
    with pytest.raises(InputError, match="ratios must hold one to 4 mappings with the same rows"):
        figures.plot_ratios(groups)
    with pytest.raises(InputError, match="correlations must hold one to 4 mappings"):
        figures.plot_correlations(groups, of="x")
