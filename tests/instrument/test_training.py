"""SGD against its formula, and determinism."""

import math

import pytest
import torch
from torch import nn

from implreg.errors import InputError
from implreg.networks import mlp
from implreg.training import SGD, Diverged, Ensemble, evaluate, train


def test_one_step_is_the_formula() -> None:
    """Full batch, no warm-up: W - rate * (softmax - onehot)^T x / N."""
    net = nn.Linear(3, 2, dtype=torch.float64)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 0, 1])
    weight, bias = net.weight.detach().clone(), net.bias.detach().clone()
    error = (x @ weight.T + bias).softmax(dim=1) - nn.functional.one_hot(y, 2)
    list(train(net, x, y, SGD(0.5, epochs=1, batch=5, warmup_epochs=0), seed=0))
    assert torch.allclose(net.weight, weight - 0.5 * error.T @ x / 5)
    assert torch.allclose(net.bias, bias - 0.5 * error.mean(dim=0))


def test_every_sample_counts_once_per_epoch() -> None:
    """A rate so small that the weights stand still: the step is the sum of all gradients."""
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(10) % 2
    net = nn.Linear(3, 2, dtype=torch.float64)
    nn.functional.cross_entropy(net(x), y, reduction="sum").backward()
    gradient, before = net.weight.grad.clone(), net.weight.detach().clone()
    list(train(net, x, y, SGD(1e-9, epochs=1, batch=2, warmup_epochs=0), seed=0))
    assert torch.allclose((before - net.weight) / 1e-9, gradient / 2, rtol=1e-4)


def test_warm_up_is_linear_and_ends() -> None:
    settings = SGD(0.02, epochs=10, warmup_epochs=4, warmup_from=0.01)
    rates = [settings.rate(epoch) for epoch in range(1, 8)]
    assert rates == pytest.approx([0.01, 0.0125, 0.015, 0.0175, 0.02, 0.02, 0.02])
    assert SGD(0.02, warmup_epochs=0).rate(1) == 0.02


@pytest.mark.parametrize("leak", [0.0, 0.1], ids=["plain", "leaky"])
def test_every_epoch_has_its_rate(leak: float) -> None:
    """Gradient descent by hand, of one network and of two side by side, as a stack or in turns."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(20) % 2
    settings = SGD(0.4, epochs=5, batch=20, warmup_epochs=3, warmup_from=0.1)
    drawn = [mlp(3, 8, 2, seed=seed, dtype=torch.float64, leak=leak) for seed in (0, 0, 1)]
    by_hand = mlp(3, 8, 2, seed=0, dtype=torch.float64, leak=leak)
    alone, *together = drawn
    epochs = zip(
        train(alone, x, y, settings, seed=0), Ensemble(together, x, y, settings, seeds=[0, 1])
    )
    for _, rate in zip(epochs, (0.1, 0.2, 0.3, 0.4, 0.4, None)):
        for net in (alone, together[0]):
            for found, expected in zip(net.parameters(), by_hand.parameters()):
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        if rate is not None:
            loss = nn.functional.cross_entropy(by_hand(x), y)
            gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
            for p, gradient in zip(by_hand.parameters(), gradients):
                p.data -= rate * gradient


def test_same_seed_same_network_and_global_state_untouched() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(40) % 2
    before = torch.random.get_rng_state()

    def trained(seed: int) -> torch.Tensor:
        net = mlp(3, 8, 2, seed=0)
        list(train(net, x, y, SGD(0.1, epochs=3, batch=8, warmup_epochs=0), seed=seed))
        return net[0].weight.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_loss_falls_and_evaluate_sees_it() -> None:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    net = mlp(4, 32, 2, seed=0)
    losses = [
        evaluate(net, x, y)[0] for _ in train(net, x, y, SGD(0.1, 30, 10, warmup_epochs=0), seed=0)
    ]
    assert len(losses) == 31
    assert losses[-1] < 0.3 * losses[0]
    assert evaluate(net, x, y)[1] < 0.05


def test_divergence_is_said() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(Diverged, match="lower learning_rate"):
        list(train(mlp(3, 8, 2, seed=0), x, torch.arange(40) % 2, SGD(1e30, 5, 8, 0), seed=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, got 0"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"batch": 2.0}, "batch must be a whole number"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"warmup_from": True}, "warmup_from"),
    ],
)
def test_refuses_settings(change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SGD(**change)


def test_refuses_data() -> None:
    net = mlp(3, 8, 2, seed=0)
    x = torch.zeros(4, 3)
    with pytest.raises(InputError, match="one whole-number label for each of the 4"):
        next(train(net, x, torch.zeros(3, dtype=torch.int64), SGD(), seed=0))
    with pytest.raises(InputError, match="one whole-number label"):
        next(train(net, x, torch.zeros(4), SGD(), seed=0))
    with pytest.raises(InputError, match="x must be finite"):
        next(train(net, x * torch.nan, torch.zeros(4, dtype=torch.int64), SGD(), seed=0))


def dropping(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    first, relu, last = mlp(6, 40, 2, seed=0, dtype=dtype)
    return nn.Sequential(first, relu, nn.Dropout(0.5), last)


def test_dropout_is_on_in_training_and_off_when_measured() -> None:
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(32) % 2
    net, dropped = dropping(), {False: [], True: []}

    def look(layer: nn.Module, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
        dropped[layer.training].append((made == 0)[given[0] != 0].double().mean().item())
        if layer.training:
            kept = made != 0
            assert torch.allclose(made[kept], 2 * given[0][kept])

    net[2].register_forward_hook(look)
    for _ in train(net, x, y, SGD(0.1, 3, 8, 0), seed=0):
        assert not net.training
        assert evaluate(net, x, y) == evaluate(net, x, y)
    assert len(dropped[True]) == 12 and dropped[True] == pytest.approx([0.5] * 12, abs=0.15)
    assert len(set(dropped[True])) > 6  # drawn anew for each batch
    assert set(dropped[False]) == {0}


def test_same_seed_same_result_with_dropout() -> None:
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(32) % 2

    def trained(seed: int, batch: int = 8) -> torch.Tensor:
        net = dropping()
        for _ in train(net, x, y, SGD(0.1, 2, batch, 0), seed=seed):
            assert torch.equal(torch.random.get_rng_state(), state)
        return net[0].weight.detach()

    found = []
    for other in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(other)
            state = torch.random.get_rng_state()
            found.append(trained(1))
            # With all samples in one batch, their order changes no more than the rounding.
            assert (trained(1, 32) - trained(2, 32)).abs().max() > 1e-4
    assert torch.equal(*found)


def test_a_diverged_network_is_as_before_the_batch() -> None:
    """Averages of batch norm included, and in eval mode."""
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    first, relu, last = mlp(6, 8, 2, seed=0)
    net = nn.Sequential(first, nn.BatchNorm1d(8), relu, last)
    with pytest.raises(Diverged):
        list(train(net, x, torch.arange(40) % 2, SGD(1e30, 5, 8, 0), seed=0))
    assert not net.training
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert 0 < int(net[1].num_batches_tracked) < 5


@pytest.mark.parametrize("labels", [[0, 1, 2, 0], [0, 1, -1, 0], [2**40, 0, 0, 0]])
def test_refuses_labels_out_of_range(labels: list[int]) -> None:
    net = mlp(3, 8, 2, seed=0)
    with pytest.raises(InputError, match="below the network's number of outputs, got"):
        next(train(net, torch.zeros(4, 3), torch.tensor(labels), SGD(), seed=0))
    assert not net.training


def test_an_exception_leaves_the_network_in_eval_mode() -> None:
    net, y = dropping(torch.float32), torch.arange(8) % 2

    def stop(layer: nn.Module, given: object) -> None:
        if layer.training:
            raise KeyboardInterrupt

    net[2].register_forward_pre_hook(stop)
    before = torch.random.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        list(train(net, torch.zeros(8, 6), y, SGD(0.1, 1), seed=0))
    assert not net.training and torch.equal(torch.random.get_rng_state(), before)
