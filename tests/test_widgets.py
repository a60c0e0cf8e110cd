import itertools
import re
import time

import nbformat
import numpy as np
import papermill
import pytest
import torch

from implreg.errors import InputError
from implreg.figures.paths import knots_of
from implreg.networks import mlp
from implreg.tracing import polyline, trace
from implreg.widgets import path_explorer


def ends(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(4, 64, generator=random), torch.randn(4, 64, generator=random)


@pytest.fixture
def explorer():
    return path_explorer(mlp(64, 128, 128, 10, seed=0), ends())


@pytest.fixture(scope="module")
def traced():
    return trace(mlp(64, 128, 128, 10, seed=0), ends())


def mark(explorer) -> tuple[float, float]:
    """Position of the point that marks t."""
    at = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', explorer.picture.value)
    return float(at[1]), float(at[2])


@pytest.mark.parametrize("t", [0.0, 0.25, 0.7315, 1.0])
def test_the_sentence_is_true_at_t(explorer, traced, t):
    explorer.pair.value, explorer.output.value, explorer.t.value = 2, 7, t
    path = traced[2]
    knots, values, slopes = knots_of(path)
    piece = min(int((knots[1:] <= t).sum()), len(slopes) - 1)
    value = np.interp(t, knots, values[:, 7])
    said = explorer.sentence.value.replace("−", "-")
    assert f"piece {piece + 1} of {len(slopes)}, from {knots[piece]:.4f} to" in said
    assert f"Output 7 is {value:.3g}, its slope {slopes[piece, 7]:.3g}." in said
    if piece < len(path.t):
        unit, layer = int(path.unit[piece]), int(path.layer[piece]) + 1
        assert f"unit {unit} of layer {layer} switches: gap {path.gaps[piece, 7]:.3g}" in said
    else:
        assert "No unit switches after it" in said


def test_a_polyline_is_explored_to_its_end_with_its_corners():
    net, points = mlp(64, 8, 10, seed=0), torch.randn(4, 64, generator=torch.Generator())
    explorer, path = path_explorer(net, polyline(points)), trace(net, polyline(points))
    knots, values, _ = knots_of(path)
    assert explorer.t.max == 3
    output = explorer.output.value
    ends = {"switches": 0, "at a corner": 0, "No unit switches after it": 0}
    for piece, (start, end) in enumerate(itertools.pairwise(knots)):
        explorer.t.value = t = (start + end) / 2
        said = explorer.sentence.value.replace("−", "-")
        assert f"piece {piece + 1} of {len(path.slopes)}, from {start:.4f}" in said
        assert f"Output {output} is {np.interp(t, knots, values[:, output]):.3g}," in said
        kind = next(words for words in reversed(ends) if words in said)
        ends[kind] += 1
        if kind == "switches":
            switch = int(np.flatnonzero(path.t.numpy() == end)[0])
            unit, gap = int(path.unit[switch]), path.gaps[switch, output]
            assert f"unit {unit} of layer 1 switches: gap {gap:.3g}." in said
    assert list(ends.values()) == [len(path.t), 2, 1]
    explorer.t.value = 3
    right = mark(explorer)[0]
    explorer.t.value = 0
    assert right - mark(explorer)[0] == pytest.approx(0.85 * 6.6 * 72, abs=0.02)


def test_moving_t_moves_the_mark_and_nothing_else(explorer):
    explorer.t.value = 0.0
    before, (left, _) = explorer.picture.value, mark(explorer)
    explorer.t.value = 1.0
    after, (right, _) = explorer.picture.value, mark(explorer)
    assert right - left == pytest.approx(0.85 * 6.6 * 72, abs=0.02)  # the width of the panel
    assert before.split("<line x1")[0] == after.split("<line x1")[0]


def test_the_mark_lies_on_the_curve(explorer):
    # The mark's height is affine in the output with one scale for all t, if it lies on the curve.
    path, output = explorer._trace[0], explorer.output.value
    knots, values, _ = knots_of(path)
    ts = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    heights = []
    for t in ts:
        explorer.t.value = t
        heights.append(mark(explorer)[1])
    scale, offset = np.polyfit(phi := np.interp(ts, knots, values[:, output]), heights, 1)
    assert scale < 0  # up in the picture is a smaller coordinate
    np.testing.assert_allclose(scale * phi + offset, heights, atol=0.02)


@pytest.mark.parametrize("control, value", [("pair", 3), ("output", 1), ("quantity", "slopes")])
def test_every_control_changes_the_drawing(explorer, control, value):
    before = explorer.picture.value
    getattr(explorer, control).value = value
    assert explorer.picture.value != before
    explorer.t.value = 0.1  # and the mark still moves afterwards
    assert "t = 0.100" in explorer.sentence.value


def test_gaps_have_a_colour_per_layer(explorer):
    explorer.quantity.value = "gaps"
    assert {"var(--step-1)", "var(--step-6)"} <= set(
        re.findall(r"var\([\w-]+\)", explorer.picture.value)
    )


def test_moves_are_quick(explorer):
    def shortest(control, values) -> float:
        times = []
        for value in values:
            start = time.perf_counter()
            control.value = value
            times.append(time.perf_counter() - start)
        return min(times)  # of several: what the machine does besides is not ours

    assert shortest(explorer.t, np.linspace(0.01, 0.99, 20)) < 0.02
    assert shortest(explorer.pair, [1, 2, 3, 0, 1, 2]) < 0.1


def test_every_control_is_labelled(explorer):
    for control in (explorer.pair, explorer.output, explorer.quantity, explorer.t):
        assert control.description
    assert 'aria-live="polite"' in explorer.sentence.value
    assert 'role="img"' in explorer.picture.value and "<title>" in explorer.picture.value


def test_it_displays_as_widget_and_as_still_picture(explorer):
    data, metadata = explorer._repr_mimebundle_()
    view = "application/vnd.jupyter.widget-view+json"
    assert set(data) == {view, "image/svg+xml", "image/png", "text/plain"}
    assert data[view]["model_id"] == explorer.view.model_id
    assert metadata["implreg"]["alt"].startswith("Outputs and slopes along one path")


@pytest.mark.parametrize("output", [10, -1, 1.5, "3", True])
def test_an_output_that_is_not_there_is_refused(output):
    with pytest.raises(InputError, match=r"output must be a whole number from 0 to 9, got .*"):
        path_explorer(mlp(64, 8, 10, seed=0), ends(), output=output)


@pytest.mark.parametrize("paths", [None, torch.zeros(2, 64), (torch.zeros(2, 64),)])
def test_paths_that_are_none_are_refused(paths):
    with pytest.raises(InputError, match="paths must be"):
        path_explorer(mlp(64, 8, 10, seed=0), paths)


def test_papermill_runs_a_notebook_with_the_explorer(tmp_path):
    cells = [
        "import torch\nfrom implreg.networks import mlp\n"
        "from implreg.widgets import path_explorer\nnet = mlp(4, 16, 3, seed=0)",
        "explorer = path_explorer(net, (torch.zeros(2, 4) + 0.1, torch.eye(4)[:2]))\nexplorer",
        "explorer.t.value = 0.25\nexplorer.quantity.value = 'gaps'\nprint(explorer.sentence.value)",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    source, target = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(notebook, source)
    papermill.execute_notebook(
        source, target, execution_timeout=60, start_timeout=60, progress_bar=False
    )
    done = nbformat.read(target, as_version=4)
    (shown,) = done.cells[1].outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    assert shown.data["image/svg+xml"].startswith("<svg")
    assert "Outputs and slopes" in shown.metadata["implreg"]["alt"]
    (printed,) = done.cells[2].outputs
    assert "t = 0.250: piece" in printed.text
