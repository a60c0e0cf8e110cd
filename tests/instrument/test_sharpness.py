"""The largest eigenvalue of the Hessian, against the dense matrix and closed forms."""

import pytest
import torch
from implreg_book.experiments.variants import Variant
from torch import nn
from torch.func import functional_call, hessian

from implreg.complexity import sharpness
from implreg.errors import InputError
from implreg.networks import mlp
from implreg.training import SGD, train


def dense(net, x, y):
    """The Hessian of the mean cross-entropy, every entry."""
    names = [name for name, _ in net.named_parameters()]
    shapes = [p.shape for p in net.parameters()]
    flat = torch.cat([p.detach().double().flatten() for p in net.parameters()])

    def loss(theta):
        parts = theta.split([s.numel() for s in shapes])
        own = {n: p.view(s) for n, p, s in zip(names, parts, shapes)}
        return nn.functional.cross_entropy(functional_call(net.double(), own, (x.double(),)), y)

    return hessian(loss)(flat)


@pytest.fixture
def samples():
    random = torch.Generator().manual_seed(0)
    return torch.randn(40, 5, generator=random), torch.randint(3, (40,), generator=random)


@pytest.mark.parametrize("epochs", [0, 30])
def test_it_is_the_largest_eigenvalue_of_the_dense_hessian(samples, epochs):
    net = mlp(5, 8, 6, 3, seed=0)
    if epochs:
        list(train(net, *samples, SGD(0.3, epochs, 16, 0), seed=0))
    found = sharpness(net, *samples, tolerance=1e-8)
    expected = torch.linalg.eigvalsh(dense(net, *samples))
    assert found == pytest.approx(float(expected[-1]), rel=1e-7)
    assert float(expected[0]) < 0  # so that the largest as a number is not simply a norm


def test_batch_norm_in_eval_mode_is_an_affine_map(samples):
    net = Variant(widths=(6,), batch_norm=True).build((5,), 3, seed=0)
    found = sharpness(net, *samples, tolerance=1e-8)
    expected = torch.linalg.eigvalsh(dense(net, *samples))
    assert found == pytest.approx(float(expected[-1]), rel=1e-7)


def test_a_convolution_has_a_hessian_too(samples):
    x, y = samples
    x = torch.cat([x, x.flip(1)], dim=1)[:, :9].view(-1, 1, 3, 3)
    net = Variant(family="conv", widths=(2, 3)).build((1, 3, 3), 3, seed=0)
    found = sharpness(net, x, y, tolerance=1e-8)
    expected = torch.linalg.eigvalsh(dense(net, x, y))
    assert found == pytest.approx(float(expected[-1]), rel=1e-7)


def test_batches_do_not_matter_and_the_network_stays_as_it_is(samples):
    net = mlp(5, 8, 3, seed=0)
    before = [p.clone() for p in net.parameters()]
    whole = sharpness(net, *samples, tolerance=1e-8)
    assert sharpness(net, *samples, batch=7, tolerance=1e-8) == pytest.approx(whole, rel=1e-7)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters()))
    assert all(p.grad is None and p.dtype == torch.float32 for p in net.parameters())


def test_softmax_regression_in_closed_form():
    """With zero weights the Hessian is (I - 1/C)/C times the second moment of the samples."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=random, dtype=torch.float64)
    net = nn.Linear(4, 5, bias=False, dtype=torch.float64)
    nn.init.zeros_(net.weight)
    moment = torch.linalg.eigvalsh(x.T @ x / 30)[-1]
    found = sharpness(net, x, torch.randint(5, (30,), generator=random), tolerance=1e-8)
    assert found == pytest.approx(float(moment) / 5, rel=1e-7)


@pytest.mark.parametrize("what", [{"batch": 0}, {"tolerance": 0.0}])
def test_bad_arguments_are_refused(samples, what):
    with pytest.raises(InputError, match=next(iter(what))):
        sharpness(mlp(5, 8, 3, seed=0), *samples, **what)
