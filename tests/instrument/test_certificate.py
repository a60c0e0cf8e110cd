"""What is proved of a trace: against rational numbers, and against traces that are wrong."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from _traces import drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import implreg
from implreg.errors import InputError
from implreg.networks import mlp
from implreg.tracing import Trace, polyline, read, trace
from implreg.tracing.bounds import KINDS, Arithmetic

seeds = st.integers(0, 2**32 - 1)


exactly = np.vectorize(lambda x: Fraction(*x.as_integer_ratio()), otypes=[object])


def convolutional(seed: int) -> nn.Sequential:
    """Kinks of several kinds, windows that overlap, and ties of zeros."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2, 1, padding=1),
        nn.Conv2d(3, 2, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(32, 6),
        nn.Hardtanh(-0.4, 0.7), nn.Linear(6, 2),
    )  # fmt: skip
    for k, parameter in enumerate(net.parameters()):
        parameter.data = drawn(seed + k, *parameter.shape) / max(1, parameter[0].numel()) ** 0.5
    return net.double().eval()


def cut(traced: Trace, row: int) -> Trace:
    """The same trace without one of its switches."""
    switches = torch.arange(len(traced.t)) != row
    pieces = torch.cat([torch.tensor([True]), switches])
    return replace(
        traced,
        **{
            k: getattr(traced, k)[switches]
            for k in ("t", "path", "segment", "layer", "unit", "gaps")
        },
        **{k: getattr(traced, k)[pieces] for k in ("piece_start", "slopes", "values")},
    )


def planted(traced: Trace, row: int, unit: int) -> Trace:
    """The same trace with another switch in the middle of a piece."""
    t = (torch.cat([torch.zeros(1), traced.t]) + torch.cat([traced.t, torch.ones(1)])) / 2
    new = {"t": t[row], "path": 0, "segment": 0, "layer": 0, "unit": unit}

    def with_row(column: Tensor, value: object) -> Tensor:
        made = torch.full_like(column[:1], float(value))  # type: ignore[arg-type]
        return torch.cat([column[:row], made, column[row:]])

    return replace(traced, **{k: with_row(getattr(traced, k), v) for k, v in new.items()})


@settings(max_examples=25)
@given(seed=seeds)
def test_traces_of_dense_networks_are_certified(seed: int) -> None:
    net = mlp(5, 20, 20, 3, seed=seed % 1000)
    found = trace(net, (drawn(seed, 2, 5), drawn(seed + 1, 2, 5))).certify()
    assert found.holds, found
    assert (
        (found.switches.low <= found.switches.t) & (found.switches.t <= found.switches.high)
    ).all()


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_traces_of_convolutional_networks_are_certified(seed: int) -> None:
    traced = trace(convolutional(seed), (drawn(seed, 1, 1, 7, 7), drawn(seed + 1, 1, 1, 7, 7)))
    found = traced.certify()
    assert found.holds, found.switches[found.switches.finding != "certified"]
    assert len(found.switches) == len(traced.t)


@settings(max_examples=15)
@given(seed=seeds, share=st.floats(0, 1, exclude_max=True), unit=st.integers(0, 19))
def test_a_missing_switch_and_an_extra_one_are_found(seed: int, share: float, unit: int) -> None:
    net = mlp(5, 20, 12, 3, seed=seed % 1000)
    traced = trace(net, (drawn(seed, 1, 5), drawn(seed + 1, 1, 5)))
    row = int(share * len(traced.t))

    without = cut(traced, row).certify()
    assert not without.holds
    named = traced.layers[int(traced.layer[row])], int(traced.unit[row])
    missed = without.missed[(without.missed.layer == named[0]) & (without.missed.unit == named[1])]
    assert len(missed) == 1
    assert missed.low.iloc[0] <= float(traced.t[row]) <= missed.high.iloc[0]

    more = planted(traced, row, unit).certify()
    assert not more.holds and more.missed.empty
    assert more.switches.index[more.switches.finding == "invented"].tolist() == [row]


def test_a_switch_with_a_wrong_name_is_both() -> None:
    traced = trace(mlp(5, 20, 3, seed=0), (drawn(0, 1, 5), drawn(1, 1, 5)))
    other = traced.unit.clone()
    other[2] = next(u for u in range(20) if u not in traced.unit.tolist())
    found = replace(traced, unit=other).certify()
    assert found.switches.finding.iloc[2] == "open"
    assert "of layer 1 is not certain there" in found.switches.why.iloc[2]
    assert found.missed.unit.tolist() == [int(traced.unit[2])]


@settings(max_examples=6)
@given(
    seed=st.integers(0, 10_000),
    radius=st.sampled_from([0.0, 1e-9, 1e-3]),
    kind=st.sampled_from(KINDS[:2]),
)
def test_bounds_hold_the_numbers_without_rounding(seed: int, radius: float, kind: type) -> None:
    """Bounds by floating-point numbers against rational numbers at points inside."""
    net, ends = convolutional(seed), (drawn(seed, 1, 1, 7, 7), drawn(seed + 1, 1, 1, 7, 7))
    program = trace(net, ends).source.program  # type: ignore[union-attr]
    way = tuple(x.flatten().numpy() for x in ends)
    t, r = np.array([0.2, 0.7]), np.full(2, radius)
    rough = Arithmetic(program, kind).states(way, t, r)
    fine = [Arithmetic(program, Fraction).states(way, t + at * radius, 0 * t) for at in (-0.9, 0.3)]
    for one, *others in zip(rough, *fine, strict=True):
        for other in others:
            assert (exactly(one.least) <= other.least).all()
            assert not (one.certain & ~other.certain).any()
            assert not (other.certain & ~one.possible).any()


def test_positions_are_rational_numbers() -> None:
    """Against the formula for a unit of the first layer, in fractions."""
    net, ends = mlp(3, 10, 2, seed=0), (drawn(0, 1, 3), drawn(1, 1, 3))
    net[0].bias.data = drawn(2, 10)
    traced = trace(net, ends)
    found = traced.certify()
    weight, bias = net[0].weight.double().tolist(), net[0].bias.double().tolist()

    def unit_at(unit: int, x: list[float]) -> Fraction:
        terms = [Fraction(w) * Fraction(v) for w, v in zip(weight[unit], x, strict=True)]
        return sum(terms, Fraction(bias[unit]))

    assert len(traced.t) >= 3
    for row, (unit, t) in enumerate(zip(traced.unit.tolist(), traced.t.tolist(), strict=True)):
        start, end = (unit_at(unit, x[0].tolist()) for x in ends)
        assert found.exact(row) == start / (start - end)
        assert float(found.exact(row)) == pytest.approx(t, abs=1e-14)


def test_polylines_and_several_paths() -> None:
    net = mlp(4, 30, 20, 2, seed=0)
    traced = trace(net, polyline([drawn(0, 3, 4), drawn(1, 3, 4)], closed=True))
    found = traced.certify()
    assert found.holds
    table = found.switches
    assert table.path.tolist() == traced.path.tolist()
    assert table.segment.tolist() == traced.segment.tolist()
    assert table.unit.tolist() == traced.unit.tolist()
    for row in (0, len(table) // 2, len(table) - 1):
        there = float(found.exact(row)) + table.segment[row]
        assert there == pytest.approx(float(traced.t[row]), abs=1e-12)
    part = traced[1].certify()
    assert part.holds and len(part.switches) == int((traced.path == 1).sum())


def test_switches_at_one_place_are_together() -> None:
    x = drawn(0, 1, 4)
    layers = [nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 5, bias=False)]
    alone = trace(nn.Sequential(*layers).double(), (x, -2 * x)).certify()
    assert len(alone.switches) == 6 and alone.holds  # each of them is linear there
    assert alone.exact(5) == Fraction(1, 3)
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).double()
    net[0].weight.data, net[0].bias.data = (
        torch.ones(2, 1).double(),
        torch.tensor([-0.5, 1]).double(),
    )
    net[2].weight.data, net[2].bias.data = (
        torch.tensor([[0.3, 1]]).double(),
        -1.5 * torch.ones(1).double(),
    )
    found = trace(net, (torch.zeros(1, 1), torch.ones(1, 1))).certify()
    assert found.switches.layer.tolist() == ["1", "3"] and found.missed.empty
    assert set(found.switches.finding) == {"together"} and not found.holds
    assert "2 together, 0 missed" in repr(found)
    with pytest.raises(
        InputError, match="row must be that of a certified switch, but 0 is together"
    ):
        found.exact(0)


def test_rational_numbers_decide_what_rounding_hides() -> None:
    """Two switches, of units that are the difference of terms some 10^14 times as large."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    net[0].weight.data = torch.tensor([[1.0, 0.0]] * 2, dtype=torch.float64)
    net[0].bias.data = torch.tensor([-0.5, -0.5 - 2.0**-14], dtype=torch.float64)
    right = trace(net, (torch.zeros(1, 2).double(), torch.ones(1, 2).double()))
    net[0].weight.data = torch.tensor([[2.0**47 + 1, -(2.0**47)]] * 2, dtype=torch.float64)
    assert right.source is not None
    hard = replace(right.source, program=read(net, torch.zeros(2)), tensors=())
    right = replace(right, source=hard)
    rough = right.certify(exact=False)
    assert set(rough.switches.finding) == {"open"}
    assert rough.switches.why.str.contains("is not certain there").all()
    fine = right.certify()
    assert fine.holds
    assert [fine.exact(0), fine.exact(1)] == [Fraction(1, 2), Fraction(1, 2) + Fraction(1, 2**14)]


def test_a_path_without_a_switch_is_certified_too() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    net[0].bias.data.fill_(100.0)
    found = trace(net, (drawn(0, 1, 2), drawn(1, 1, 2))).certify()
    assert found.holds and "no switch, 0 missed" in repr(found)


def test_what_cannot_be_certified_is_refused(tmp_path: Path) -> None:
    net, ends = mlp(4, 8, 2, seed=0), (drawn(0, 1, 4), drawn(1, 1, 4))
    traced = trace(net, ends)
    traced.save(tmp_path / "trace.npz")
    with pytest.raises(InputError, match="trace must know its network and its paths"):
        Trace.load(tmp_path / "trace.npz").certify()
    with pytest.raises(InputError, match=r"float64 to be certified, got torch\.float32"):
        trace(net, ends, dtype=torch.float32).certify()
    net = net.double()
    traced = trace(net, ends)
    assert traced.certify().holds
    with torch.no_grad():
        net[0].weight += 1
    with pytest.raises(InputError, match="parameters or buffers have changed since; trace again"):
        traced.certify()
    assert implreg.Certificate is type(trace(net, ends).certify())


def from_zero_to(end: float) -> tuple[Tensor, Tensor]:
    return torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), end, dtype=torch.float64)


def test_a_large_constant_takes_no_digits_from_weights() -> None:
    """Of a layer that is read by trying: the matrix is that of its own weights."""
    cell = nn.RNNCell(1, 1, nonlinearity="relu").double()
    for parameter, held in zip(cell.parameters(), (0.1, 0.0, -1000.0, 0.0), strict=True):
        parameter.data.fill_(held)
    found = trace(cell, from_zero_to(2e4)).certify()
    assert found.holds
    assert found.exact(0) == Fraction(1000) / Fraction(0.1) / 20_000


def test_a_switch_that_is_there_twice_is_not_certified() -> None:
    traced = trace(mlp(3, 20, 10, 1, seed=0), (drawn(0, 1, 3), drawn(1, 1, 3)))
    rows = torch.tensor([0, *range(len(traced.t))])
    names = ("t", "path", "segment", "layer", "unit", "gaps")
    found = replace(traced, **{k: getattr(traced, k)[rows] for k in names}).certify()
    assert found.switches.finding.tolist()[:2] == ["open", "open"]
    assert found.switches.why[0] == "one unit is there twice"


def test_a_unit_that_is_zero_for_a_while_keeps_its_side() -> None:
    """Below zero, zero from 1/4 to 3/4, and above: one switch, which is missed where it is not."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1, bias=False), nn.ReLU()).double()
    numbers = [[[-1.0], [1.0]], [0.25, -0.75], [[-1.0, 1.0]]]
    for parameter, held in zip(net.parameters(), numbers, strict=True):
        parameter.data = torch.tensor(held, dtype=torch.float64)
    traced = trace(net, from_zero_to(1))
    assert traced.layer.tolist() == [0, 0, 1]
    assert not traced.certify().holds and traced.certify().missed.empty
    without = cut(traced, 2).certify()
    assert without.missed.layer.tolist() == ["3"]


def test_numbers_that_underflow_are_rational() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU()).double()
    for parameter, held in zip(net.parameters(), (1e-200, -0.5e-200, 1e-150, 0.0), strict=True):
        parameter.data.fill_(held)
    traced = trace(net, from_zero_to(1))  # which loses the switch
    assert len(traced.t) == 0 and traced.certify().missed.unit.tolist() == [0]


def test_no_path_at_all_is_refused() -> None:
    traced = trace(mlp(4, 8, 2, seed=0), (drawn(0, 1, 4), drawn(1, 1, 4)))[0:0]
    with pytest.raises(InputError, match="trace must hold at least one path"):
        traced.certify()


def test_a_row_that_there_is_not_is_refused() -> None:
    found = trace(mlp(4, 8, 2, seed=0), (drawn(0, 1, 4), drawn(1, 1, 4))).certify()
    for row in (99, -1, "first", 1.0):
        with pytest.raises(InputError, match=f"row must be from 0 to .*, got {row}"):
            found.exact(row)  # type: ignore[arg-type]


def test_exact_is_true_or_false() -> None:
    traced = trace(mlp(4, 8, 2, seed=0), (drawn(0, 1, 4), drawn(1, 1, 4)))
    with pytest.raises(InputError, match="exact must be True or False, got 'yes'; choose"):
        traced.certify(exact="yes")  # type: ignore[arg-type]
