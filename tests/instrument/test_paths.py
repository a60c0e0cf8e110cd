"""Paths to trace: tensors and arrays of NumPy alike, and what is refused."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import implreg
from implreg.checks import check_array
from implreg.complexity import gradient_path_length
from implreg.errors import InputError
from implreg.networks import mlp
from implreg.tracing import Pairs, Polyline, polyline, trace
from implreg.tracing.paths import segments, straight_ends

X = np.random.default_rng(0).normal(size=(2, 5, 3))
FLOATS = ("<f8", ">f8", "<f4", ">f4", "<f2", "<g")
INTEGERS = ("?", "i1", "u1", "<i2", ">i4", "<i8", "<u2", "<u4")


def refused(call: Callable[[], object]) -> str:
    """The one sentence with which `call` is refused."""
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".") and "; " in sentence
    return sentence


@pytest.mark.parametrize("kind", FLOATS)
def test_arrays_are_traced_as_tensors_are(kind: str) -> None:
    net = mlp(3, 20, 2, seed=0)
    x0, x1 = X.astype(kind)
    mine = trace(net, (x0, x1))
    pair = tuple(torch.from_numpy(x.astype(np.float64)) for x in (x0, x1))
    theirs = trace(net, pair)  # type: ignore[arg-type]
    assert len(mine.t) > 0
    assert torch.equal(mine.t, theirs.t) and torch.equal(mine.slopes, theirs.slopes)
    assert torch.equal(trace(net, (x0, pair[1])).t, theirs.t)
    assert torch.equal(trace(net, [x0, x1]).t, theirs.t)  # type: ignore[arg-type]


@pytest.mark.parametrize("closed", [False, True])
def test_polylines_of_arrays_are_those_of_tensors(closed: bool) -> None:
    own = torch.from_numpy(X)
    for mine, theirs in ((X[0], own[0]), (list(X), list(own)), ([X[0], own[1]], list(own))):
        ours = polyline(mine, closed=closed).vertices
        assert torch.equal(ours, polyline(theirs, closed=closed).vertices)
    assert torch.equal(segments(Polyline(X, closed), torch.float64)[0], own[:, :-1].flatten(0, 1))  # type: ignore[arg-type]


def test_pairs_of_arrays_are_those_of_tensors() -> None:
    data = implreg.load("digits", train=200)
    names = [f.name for f in fields(data) if isinstance(getattr(data, f.name), torch.Tensor)]
    given = replace(data, **{name: getattr(data, name).numpy() for name in names})
    mine, theirs = (implreg.pairs(x, kind="different", count=9) for x in (given, data))
    for name in ("x0", "x1", "y0", "y1"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name))
    assert given.shape == data.shape and len(names) == 4
    drawn = Pairs(*(getattr(mine, name).numpy() for name in ("x0", "x1", "y0", "y1")), "random")
    assert torch.equal(straight_ends(drawn)[1], mine.x1)


def test_measures_along_paths_take_arrays() -> None:
    net = mlp(3, 20, 2, seed=0)
    found = trace(net, (X[0], X[1]))
    tensors = torch.from_numpy(X)
    mine = gradient_path_length(net, found, (X[0], X[1]))
    assert torch.equal(mine, gradient_path_length(net, found, (tensors[0], tensors[1])))
    mine, theirs = (
        implreg.theory.at_initialisation(net, (x[0], x[1])).switches for x in (X, tensors)
    )
    assert torch.equal(mine, theirs)


@given(
    array=st.sampled_from((*FLOATS, *INTEGERS)).flatmap(
        lambda kind: arrays_of.arrays(
            kind,
            arrays_of.array_shapes(max_side=4),
            elements=arrays_of.from_dtype(np.dtype(kind), allow_nan=False, allow_infinity=False),
        )
    ),
    turned=st.booleans(),
)
def test_arrays_keep_their_numbers_and_are_copied(array: Any, turned: bool) -> None:
    array = array.T[::-1] if turned else array
    array.flags.writeable = False
    tensor = check_array("x", array)
    assert tensor.shape == array.shape
    assert np.array_equal(tensor.numpy(), array.astype(min(array.dtype, np.dtype(float))))
    assert not np.shares_memory(tensor.numpy(), array)


def test_tensors_are_left_as_they_are() -> None:
    for x in (torch.ones(2), torch.ones(2, dtype=torch.int8), torch.ones(2, requires_grad=True)):
        assert check_array("x", x) is x


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (X.astype(object), "ndarray of object"),
        (X + 0j, "ndarray of complex128"),
        (X.astype("U3"), "ndarray of <U3"),
        (np.ma.masked_less(X, 0), "MaskedArray of float64"),
        (torch.from_numpy(X + 0j), "Tensor of torch.complex128"),
        (torch.from_numpy(X).to_sparse(), "Tensor of torch.float64"),
    ],
)
def test_other_arrays_are_one_sentence(bad: Any, kind: str) -> None:
    net, good = mlp(3, 20, 2, seed=0), X[0]
    told = f"must be a dense tensor or a NumPy array of real numbers, got {kind}; convert it to flo"
    assert f"paths: x0 {told}" in refused(lambda: trace(net, (bad[0], good)))
    assert f"paths: x1 {told}" in refused(lambda: trace(net, (good, bad[0])))
    assert f"points {told}" in refused(lambda: polyline(bad[0]))
    assert f"points {told}" in refused(lambda: polyline([good, bad[0]]))


def test_what_is_no_array_is_one_sentence() -> None:
    assert "x must be a dense tensor or a NumPy array of real numbers, got list;" in refused(
        lambda: check_array("x", [1.0])
    )
    data = implreg.load("digits", train=200)
    assert "y_test must be a dense tensor or a NumPy array" in refused(
        lambda: replace(data, y_test=[1, 2])  # type: ignore[arg-type]
    )
    net, x0 = mlp(3, 20, 2, seed=0), X[0]
    assert "got an array of shape (5, 3)" in refused(lambda: trace(net, x0))
    assert "got tuple of an array of shape (5, 3), list of float" in refused(
        lambda: trace(net, (x0, [0.5]))  # type: ignore[arg-type]
    )
    assert "got an array of shape (1, 3); stack" in refused(lambda: polyline(x0[:1]))


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_are_refused_as_those_of_tensors(kind: str) -> None:
    x = np.zeros((2, 3), kind)
    sentence = refused(lambda: trace(mlp(3, 20, 2, seed=0), (x, x)))
    assert "paths: x0 must hold numbers of a floating type, got" in sentence
    tensor = torch.from_numpy(x.astype(x.dtype.newbyteorder("=")))
    assert sentence == refused(lambda: trace(mlp(3, 20, 2, seed=0), (tensor, tensor)))


def test_arrays_that_are_not_finite_are_one_sentence() -> None:
    x = X.copy()
    x[1, 2] = np.nan
    assert "x1 must be finite, but 3 of its 15" in refused(
        lambda: trace(mlp(3, 20, 2, seed=0), (x[0], x[1]))
    )
