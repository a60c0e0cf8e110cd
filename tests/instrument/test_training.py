"""SGD against its formula, and determinism."""

import math

import pytest
import torch
from torch import nn

from implreg.errors import InputError
from implreg.networks import mlp, resnet
from implreg.training import SGD, Diverged, Ensemble, evaluate, fill_statistics, train


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
    settings = SGD(0.02, epochs=10, batch=10, warmup_epochs=2, warmup_from=0.01)
    rates = [settings.rate(epoch, step, 20) for epoch in range(1, 4) for step in (0, 1)]
    assert rates == pytest.approx([0.01, 0.0125, 0.015, 0.0175, 0.02, 0.02])
    assert SGD(0.02, warmup_epochs=0).rate(1, 0, 20) == 0.02


def test_warm_up_is_the_program_s() -> None:
    """Of 78,200 steps in 200 epochs the 78,126th has the whole rate, and the last a little more."""
    for rate, start in ((0.001, 1e-5), (0.01, 1e-5), (0.02, 1e-6)):
        settings, steps = SGD(rate, warmup_from=start), 391
        for j in (0, 1, 390, 391, 40_000, 78_125, 78_199):
            expected = start + j * (rate - start) / 78_125
            assert settings.rate(1 + j // steps, j % steps, 50_000) == pytest.approx(expected)
        assert settings.rate(200, 390, 50_000) > rate == settings.rate(201, 0, 50_000)


@pytest.mark.parametrize("leak", [0.0, 0.1], ids=["plain", "leaky"])
def test_every_step_has_its_rate(leak: float) -> None:
    """SGD by hand, of one network and of two side by side, as a stack or in turns."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(20) % 2
    settings = SGD(0.4, epochs=5, batch=10, warmup_epochs=2, warmup_from=0.1)
    orders = torch.Generator().manual_seed(0)
    drawn = [mlp(3, 8, 2, seed=seed, dtype=torch.float64, leak=leak) for seed in (0, 0, 1)]
    by_hand = mlp(3, 8, 2, seed=0, dtype=torch.float64, leak=leak)
    alone, *together = drawn
    epochs = zip(
        train(alone, x, y, settings, seed=0), Ensemble(together, x, y, settings, seeds=[0, 1])
    )
    rates = [(0.1, 0.175), (0.25, 0.325), *[(0.4, 0.4)] * 3, ()]
    for _, of_epoch in zip(epochs, rates, strict=True):
        for net in (alone, together[0]):
            for found, expected in zip(net.parameters(), by_hand.parameters()):
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        rows = torch.randperm(20, generator=orders).split(10)
        for part, rate in zip(rows, of_epoch):
            loss = nn.functional.cross_entropy(by_hand(x[part]), y[part])
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


def normed(seed: int = 0) -> nn.Module:
    return resnet(10, shape=(1, 8, 8), width_factor=0.25, dropout=0.5, seed=seed)


def test_statistics_are_filled_by_steps_of_training() -> None:
    x = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(30) % 10
    net, before = normed(), normed().state_dict()
    fill_statistics(net, x, y, batches=7, batch=10, learning_rate=1e-8, seed=3)
    assert not net.training
    for name, value in net.state_dict().items():
        if "running" in name:
            assert not torch.allclose(value, before[name])
        elif "num_batches" in name:
            assert value == 7
        else:
            torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-6)
    # The first norm sees what the first convolution makes, without dropout: a mean by hand.
    random, rows = torch.Generator().manual_seed(3), []
    for _ in range(3):
        rows += torch.randperm(30, generator=random).split(10)
    mean, variance = torch.zeros(4), torch.ones(4)
    for part in rows[:7]:
        z = net.convolution(x[part]).detach().transpose(0, 1).flatten(1)
        mean = 0.9 * mean + 0.1 * z.mean(1)
        variance = 0.9 * variance + 0.1 * z.var(1, correction=1)
    torch.testing.assert_close(net.stage1[0].norm1.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.stage1[0].norm1.running_var, variance, rtol=1e-4, atol=1e-5)


def test_statistics_depend_on_the_seed_alone() -> None:
    x = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y, before = torch.arange(30) % 10, torch.random.get_rng_state()
    nets = [normed() for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1)):
        fill_statistics(net, x, y, batches=3, batch=99, seed=seed)
    one, same, other = (net.stage3[0].norm2.running_var for net in nets)
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_network_without_batch_norm_is_left_as_it_is() -> None:
    net = mlp(3, 8, 2, seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fill_statistics(net, torch.randn(5, 3), torch.zeros(5).long(), learning_rate=1.0, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_statistics_that_cannot_be_filled() -> None:
    x, y = torch.randn(5, 1, 8, 8), torch.zeros(5).long()
    with pytest.raises(InputError, match="batches must be a whole number of at least 1"):
        fill_statistics(normed(), x, y, batches=0, seed=0)
    with pytest.raises(InputError, match="x must hold samples that the network takes"):
        fill_statistics(normed(), x[:, :, 0], y, seed=0)
    huge = normed()
    huge.output.weight.data.fill_(1e38)
    with pytest.raises(Diverged, match="lower the initial weights"):
        fill_statistics(huge, x, y, seed=0)
