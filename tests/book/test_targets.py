"""Training to target losses, and descent of a loss of all samples."""

import copy

import pytest
import torch
from implreg_book.experiments.targets import descend, falling, train_to

from implreg.errors import InputError
from implreg.networks import mlp
from implreg.training import SGD, Recipe, evaluate, train

HOW = SGD(0.1, 40, 16, 0)


@pytest.fixture(scope="module")
def samples():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, (x[:, 0] > 0).long()


def net():
    return mlp(4, 32, 2, seed=0, dtype=torch.float64)


def course(samples, settings, seed=3):
    """Losses, errors and weights of the network at every epoch, by `train` and `evaluate`."""
    one, found = net(), []
    for _ in train(one, *samples, settings, seed=seed):
        found.append((*evaluate(one, *samples), copy.deepcopy(one.state_dict())))
    return found


def first(values, target):
    return next(epoch for epoch, value in enumerate(values) if value <= target)


@pytest.mark.parametrize("of", ["loss", "error"])
def test_every_target_has_its_first_epoch(samples, of):
    settings = Recipe(0.1, 40, 16, 0, momentum=0.5)
    known = course(samples, settings)
    values = [row[of == "error"] for row in known]
    targets = (values[0], values[0] - 1e-6, values[0] / 2, values[0] / 2 - 1e-9, values[20])
    one = net()
    seen = []
    for moment in train_to(one, *samples, settings, targets, seed=3, of=of):
        assert moment.net is one and not one.training
        assert moment.reached and not moment.diverged
        assert moment.loss == known[moment.epoch][0]
        for name, value in one.state_dict().items():
            assert torch.equal(value, known[moment.epoch][2][name])
        seen += [(target, moment.epoch) for target in moment.targets]
    assert seen == [(target, first(values, target)) for target in targets]
    # No epoch more than it takes.
    assert torch.equal(one[0].weight, known[first(values, targets[-1])][2]["0.weight"])


def test_targets_that_are_left_have_the_last_moment(samples):
    known = course(samples, HOW)
    *_, last = train_to(net(), *samples, HOW, (1.0, 1e-7, 1e-9), seed=3)
    assert last.targets == (1e-7, 1e-9) and not last.reached and not last.diverged
    assert last.epoch == 40
    assert torch.equal(last.net[0].weight, known[-1][2]["0.weight"])


def test_a_training_that_diverges_is_told(samples):
    some = list(train_to(net(), *samples, SGD(1e200, 5, 16, 0), (100.0, 1e-3), seed=0))
    assert [(m.targets, m.reached, m.diverged) for m in some] == [
        ((100.0,), True, False),
        ((1e-3,), False, True),
    ]
    assert all(value.isfinite().all() for value in some[-1].net.state_dict().values())


def test_what_cannot_be_a_target_is_refused(samples):
    with pytest.raises(InputError, match="of must be one of loss, error"):
        next(train_to(net(), *samples, HOW, (1.0,), seed=0, of="accuracy"))
    with pytest.raises(InputError, match="target_losses must be one or more falling"):
        falling("target_losses", (0.1, 0.1))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_descent_takes_the_steps_asked_for_each_as_if_alone(kind):
    start = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)

    def descended(start, steps):
        w = start.clone().requires_grad_()
        return torch.stack(list(descend(lambda: w**4 + w**2, kind([w], lr=0.01), steps)))

    together = descended(start, 7)
    assert together.shape == (8, 3) and not together.requires_grad
    for i, one in enumerate(start):
        assert torch.equal(descended(one, 7), together[:, i])
    if kind is torch.optim.SGD:
        w = start.clone()
        for losses in together:
            torch.testing.assert_close(losses, w**4 + w**2)
            w -= 0.01 * (4 * w**3 + 2 * w)
