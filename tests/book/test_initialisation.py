"""Chapter "Initialisation": starts, targets, and runs that do not arrive."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from implreg_book.evidence.comparisons import ratios_at
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments import initialisation
from implreg_book.experiments.initialisation import STARTS, Config, first_path, run

from implreg.datasets import load
from implreg.errors import InputError
from implreg.training import SGD, evaluate

TINY = Config(
    "digits", 60, 32, 0, "random", (1.0, 0.5), SGD(0.1, 400, 16, 2), copies=2, pairs=4
)  # fmt: skip


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {start: run(replace(TINY, start=start)) for start in STARTS}


def test_every_start_reaches_every_target(tables):
    for table in tables.values():
        assert table.target_loss.tolist() == [1.0, 0.5]
        assert table.reached.all()
        assert not table.diverged.any()
        assert (table.train_loss <= table.target_loss).all()
        assert table.epochs.is_monotonic_increasing


def test_starts_differ_as_they_should(tables):
    start = {name: table.start_deflection[0] for name, table in tables.items()}
    # Without biases, 4 times the hidden weights is 4 times the network.
    assert start["large scale"] == pytest.approx(4 * start["random"], rel=1e-5)
    assert start["adversarial"] > start["random labels"] > start["random"]


def test_normalised_measures_refer_to_the_random_network(tables):
    for name in ("random", "large scale"):
        assert tables[name].start_normalized_deflection[0] == pytest.approx(
            tables["random"].start_deflection[0], rel=1e-5
        )


@pytest.mark.parametrize("start", ["random labels", "adversarial"])
def test_pretraining_fits_the_random_labels(start):
    config = replace(TINY, start=start)
    data = load("digits", train=60)
    x, y = initialisation._random_labels(data, config)
    net = next(initialisation.moments(config, data)).net
    assert evaluate(net, x, y)[1] <= config.pretrain_error
    assert evaluate(net, data.x_train, data.y_train)[1] > 0.5


def test_adversarial_copies_have_their_own_labels_and_zeros():
    data = load("digits", train=60)
    x, y = initialisation._random_labels(data, replace(TINY, start="adversarial", zeroed=0.25))
    assert x.shape == (120, 64)
    assert (y[:60] != y[60:]).any()
    used = data.x_train.repeat(2, 1) != 0
    assert float((x == 0)[used].double().mean()) == pytest.approx(0.25, abs=0.03)
    assert (x[:60] != x[60:]).any()


@pytest.mark.parametrize("start", STARTS)
def test_a_run_is_determined_by_its_seed(tables, start):
    again = run(replace(TINY, start=start))
    pd.testing.assert_frame_equal(again, tables[start])
    other = run(replace(TINY, start=start, seed=1))
    assert (other.deflection != again.deflection).all()


def test_scale_one_is_the_random_start(tables):
    table = run(replace(TINY, start="large scale", scale=1.0))
    pd.testing.assert_frame_equal(table, tables["random"])


def test_a_diverging_run_is_recorded_as_diverged():
    config = replace(TINY, start="large scale", scale=1e3, sgd=SGD(1e4, 20, 16, 0))
    table = run(config)
    assert table.diverged.all()
    assert not table.reached.any()
    assert first_path(config).empty


def test_targets_that_are_not_reached_are_recorded_without_measures():
    config = replace(TINY, target_losses=(2.0, 1e-9), sgd=SGD(0.1, 20, 16, 2))
    table = run(config)
    assert table.reached.tolist() == [True, False]
    assert not table.diverged.any()
    assert table.deflection.isna().tolist() == [False, True]
    assert first_path(config).empty


def test_random_labels_that_cannot_be_fitted_are_not_a_start():
    table = run(replace(TINY, start="random labels", sgd=SGD(0.1, 1, 16, 0)))
    assert not table.reached.any()
    assert not table.diverged.any()


def test_first_path_goes_from_sample_to_sample():
    path = first_path(TINY)
    assert path.output.nunique() == 10
    for _, line in path.groupby("output"):
        assert line.t.iloc[0] == 0
        assert line.t.iloc[-1] == 1
        assert line.t.is_monotonic_increasing
    ends = path[path.t == 1].set_index("output").value
    assert ends.idxmax() == path.label.iloc[0]  # a pair of one class, learnt


def table_of(*rows: tuple[str, int, bool, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["condition", "seed", "reached", "x"]).assign(target_loss=0.1)


def ratios(table: pd.DataFrame, quantity: str) -> dict[str, Estimate]:
    """As the chapter asks for them."""
    return ratios_at(table, 0.1, {quantity: "found"}, reference="random")["found"]


def test_ratios_are_paired_by_seed():
    found = ratios(
        table_of(
            ("adversarial", 1, True, 30.0), ("adversarial", 0, True, 3.0),
            ("random", 0, True, 1.0), ("random", 1, True, 10.0),
        ),
        "x",
    )  # fmt: skip
    assert list(found) == ["adversarial"]
    estimate = found["adversarial"]
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3, 3, 3))


def test_ratios_leave_out_seeds_of_which_a_run_did_not_arrive():
    found = ratios(
        table_of(
            ("random", 0, True, 1.0), ("random", 1, True, 1.0), ("random", 2, False, math.nan),
            ("adversarial", 0, True, 2.0), ("adversarial", 1, False, math.nan),
            ("adversarial", 2, True, 5.0), ("large scale", 0, False, math.nan),
        ),
        "x",
    )  # fmt: skip
    assert (found["adversarial"].value, found["adversarial"].n) == (2.0, 1)
    assert found["large scale"].n == 0
    assert math.isnan(found["large scale"].value)


def test_ratios_need_a_random_start():
    rows = table_of(("random", 0, False, math.nan), ("adversarial", 0, True, 1.0))
    with pytest.raises(InputError, match="'random', of which none has"):
        ratios(rows, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "lazy"}, "start must be one of random, large scale"),
        ({"width": 0}, "width must be"),
        ({"copies": 0}, "copies must be"),
        ({"pairs": 0}, "pairs must be"),
        ({"seed": -1}, "seed must be"),
        ({"scale": 0.0}, "scale must be"),
        ({"zeroed": 1.0}, "zeroed must be a share below 1"),
        ({"zeroed": -0.1}, "zeroed must be"),
        ({"pretrain_error": 1.0}, "pretrain_error must be a share below 1"),
        ({"target_losses": ()}, "target_losses must be one or more falling"),
        ({"target_losses": (0.1, 0.2)}, "target_losses must be one or more falling"),
        ({"target_losses": (0.1, 0.1)}, "target_losses must be one or more falling"),
        ({"target_losses": (0.0,)}, "target_losses must be"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **changes)
