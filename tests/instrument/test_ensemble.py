"""Networks side by side against one by one; stopping and resuming; divergence; refusals."""

import copy
import errno
import os
import re
import signal
from collections import Counter
from itertools import count, pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from _processes import PROCESSES, small_files
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from implreg.errors import InputError, explain_os_error
from implreg.networks import mlp
from implreg.training import SGD, Diverged, Ensemble, Recipe, ensemble, evaluate, train
from implreg.training.stack import Stack, shape_of

DOUBLE = torch.float64


def samples(n=50, inputs=8, classes=3, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, inputs, generator=random, dtype=DOUBLE).to(dtype)
    return x, torch.randint(classes, (n,), generator=random)


def conv(seed, dtype=torch.float32):
    """With dropout and batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(24, 3),
        ).to(dtype)  # fmt: skip


def mixed(dtype=torch.float32):
    """Networks of three shapes that can be stacked, and two that cannot, in no order."""
    return [
        mlp(8, 16, 3, seed=0, dtype=dtype),
        conv(1, dtype),
        mlp(8, 6, 5, 3, seed=2, dtype=dtype),
        mlp(8, 16, 3, seed=3, dtype=dtype),
        mlp(8, 16, 3, seed=4, leak=0.1, dtype=dtype),
        mlp(8, 16, 3, seed=5, dtype=dtype),
        nn.Sequential(copy.deepcopy(mlp(8, 3, 3, seed=6, dtype=dtype)[0])),
        mlp(8, 6, 5, 3, seed=7, dtype=dtype),
        conv(8, dtype),
    ]


def weights(net):
    return torch.cat([p.detach().reshape(-1).double() for p in net.state_dict().values()])


def apart(one, other):
    """Largest difference of two networks' parameters and buffers."""
    return float((weights(one) - weights(other)).abs().max())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(),
                                                 other.state_dict().values()))  # fmt: skip


def one_sentence(message):
    return re.fullmatch(r"[^\n]*\.", message) and not re.search(r"\.\s+[A-Z]", message)


# One step


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    networks=st.integers(1, 4),
    n=st.integers(1, 11),
    batch=st.integers(1, 11),
    seed=st.integers(0, 2**32),
)
def test_steps_are_those_of_autograd(sizes, networks, n, batch, seed):
    """Of one to three layers, each network at its own rate, with a smaller last batch."""
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, generator=random, dtype=DOUBLE)

    nets = []
    for _ in range(networks):
        layers = []
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o, dtype=DOUBLE), nn.ReLU()]
            layers[-2].weight.data, layers[-2].bias.data = drawn(o, i), drawn(o)
        nets.append(nn.Sequential(*layers[:-1]))
    alone, stack = copy.deepcopy(nets), Stack(nets)
    x = drawn(networks, n, sizes[0])
    y = torch.randint(sizes[-1], (networks, n), generator=random)
    rates = torch.rand(networks, generator=random, dtype=DOUBLE)
    for rows in torch.arange(n).split(batch):
        losses, wrong = stack.step(x[:, rows], y[:, rows], rates)
        for s, net in enumerate(alone):
            logits = net(x[s, rows])
            loss = nn.functional.cross_entropy(logits, y[s, rows])
            assert losses[s].item() == pytest.approx(loss.item(), abs=1e-12, rel=1e-12)
            assert int(wrong[s]) == int((logits.argmax(1) != y[s, rows]).sum())
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            for p, gradient in zip(net.parameters(), gradients):
                p.data -= rates[s] * gradient
    for net, other in zip(nets, alone):
        assert apart(net, other) < 1e-12


def test_a_step_is_taken_by_all_or_none():
    nets = [mlp(4, 5, 2, seed=s) for s in range(3)]
    nets[1][0].weight.data *= torch.inf
    before, stack = copy.deepcopy(nets), Stack(nets)
    x, y = torch.ones(3, 2, 4), torch.zeros(3, 2, dtype=torch.int64)
    losses, _ = stack.step(x, y, torch.ones(3))
    assert losses.isfinite().tolist() == [True, False, True]
    assert all(same(net, then) for net, then in zip(nets, before) if net is not nets[1])


def test_what_is_stacked():
    assert shape_of(mlp(4, 5, 2, seed=0)) == shape_of(mlp(4, 5, 2, seed=1)) is not None
    frozen, tied, mixed_types, hooked = (mlp(4, 4, 4, 4, seed=0) for _ in range(4))
    frozen[2].weight.requires_grad_(False)
    tied[2].weight = tied[0].weight
    mixed_types[2].double()
    hooked[1].register_forward_hook(lambda layer, given, made: 2 * made)
    normed = nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 2)))
    for net in (
        frozen, tied, mixed_types, hooked, normed, conv(0), mlp(4, 5, 2, seed=0, leak=0.1),
        nn.Sequential(),
        nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2, bias=False)),
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)),
        nn.Sequential(tied[0], nn.ReLU(), tied[0]),
    ):  # fmt: skip
        assert shape_of(net) is None


# Side by side and one by one


def one_by_one(nets, x, y, settings, seeds):
    """Copies of the networks after `train`, and their losses after every epoch, (S, epochs + 1)."""
    nets = copy.deepcopy(nets)
    losses = [
        [evaluate(net, x, y)[0] for _ in train(net, x, y, each, seed=seed)]
        for net, each, seed in zip(nets, settings, seeds)
    ]
    return nets, np.array(losses)


@pytest.mark.parametrize(("dtype", "error"), [(DOUBLE, 1e-10), (torch.float32, 1e-5)])
def test_side_by_side_is_one_by_one(dtype, error):
    x, y = samples(dtype=dtype)
    nets = mixed(dtype)
    seeds = [3 * i for i in range(len(nets))]
    given = [SGD(0.02 * (i + 1), 8, 16, warmup_epochs=i) for i in range(len(nets))]
    alone, losses = one_by_one(nets, x, y, given, seeds)
    together = Ensemble(nets, x, y, given, seeds=seeds)
    found = np.array([[evaluate(net, x, y)[0] for net in nets] for _ in together]).T
    assert together.epoch == 8 and not together.diverged.any()
    assert found == pytest.approx(losses, abs=error)
    assert (losses[:, -1] < losses[:, 0]).all()
    for i, (net, other) in enumerate(zip(nets, alone)):
        assert apart(net, other) < 10 * error
        if i in (1, 4, 8):  # they take turns
            assert same(net, other) and (found[i] == losses[i]).all()


@pytest.mark.parametrize("cached", [1, 500, 1000])
def test_parts_of_a_stack_are_the_stack(monkeypatch, cached):
    """As when the networks do not fit into the cache together."""
    monkeypatch.setattr(ensemble, "_CACHED", 8 * cached)
    x, y = samples(dtype=DOUBLE)
    nets = [mlp(8, 16, 3, seed=i, dtype=DOUBLE) for i in range(7)]
    given = [SGD(1e200 if i == 2 else 0.1, 5, 16, 0) for i in range(7)]
    alone, _ = one_by_one(nets[:2] + nets[3:], x, y, given[:2] + given[3:], [0, 1, 3, 4, 5, 6])
    together = Ensemble(nets, x, y, given, seeds=range(7))
    list(together)
    assert together.diverged.tolist() == [i == 2 for i in range(7)]
    for net, other in zip(nets[:2] + nets[3:], alone):
        assert apart(net, other) < 1e-10


@pytest.mark.parametrize("change", ["frozen", "tied"])
def test_parameters_that_are_frozen_or_shared_within_a_network(change):
    x, y = samples(classes=8)
    nets = [mlp(8, 8, 8, seed=i) for i in range(2)]
    for net in nets:
        if change == "frozen":
            net[0].weight.requires_grad_(False)
        else:
            net[2].weight = net[0].weight
    alone, _ = one_by_one(nets, x, y, [SGD(0.1, 3, 16, 0)] * 2, [0, 1])
    list(Ensemble(nets, x, y, SGD(0.1, 3, 16, 0), seeds=[0, 1]))
    assert all(map(same, nets, alone))


@pytest.mark.parametrize("make", [mlp, conv])
def test_companions_do_not_matter(make):
    x, y = samples(dtype=DOUBLE)

    def net(seed):
        return conv(seed, DOUBLE) if make is conv else mlp(8, 16, 3, seed=seed, dtype=DOUBLE)

    def trained(seeds, batch=16):
        nets = [net(seed) for seed in seeds]
        list(Ensemble(nets, x, y, SGD(0.1, 5, batch, 0), seeds=seeds))
        return dict(zip(seeds, nets))

    some, more = trained([4, 7]), trained([9, 7, 1, 2, 4])
    assert all(apart(some[seed], more[seed]) < 1e-10 for seed in (4, 7))
    assert apart(some[4], some[7]) > 1e-3
    assert all(same(net, trained([4, 7])[seed]) for seed, net in some.items())


RECIPES = [
    {"momentum": 0.9, "weight_decay": 0.01},
    {"optimiser": "adam"},
    {"optimiser": "adam", "mixup": 0.5, "label_noise": 0.2},
    {},
]


def test_recipes_take_turns():
    """Each as it would be alone, bit for bit, beside stacks and another that diverges."""
    x, y = samples()
    nets = [mlp(8, 16, 3, seed=i) for i in range(8)]
    given = [Recipe(0.02, 4, 16, 2, **what) for what in RECIPES] + [SGD(0.1, 4, 16, 0)] * 3
    given.append(Recipe(1e30, 4, 16, 0, momentum=0.5))
    alone, _ = one_by_one(nets[:7], x, y, given[:7], range(7))
    together = Ensemble(nets, x, y, given, seeds=range(8))
    list(together)
    assert together.diverged.tolist() == [False] * 7 + [True]
    for i, (net, other) in enumerate(zip(nets, alone)):
        assert same(net, other) if i < 4 else apart(net, other) < 1e-5


def test_orders_differ_between_seeds():
    x, y = samples()
    nets = [mlp(8, 16, 3, seed=0) for _ in range(2)]
    list(Ensemble(nets, x, y, SGD(0.1, 3, 16, 0), seeds=[0, 1]))
    assert apart(*nets) > 1e-3


def test_global_random_state_neither_matters_nor_changes():
    x, y = samples()
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        nets = mixed()
        Ensemble(nets, x, y, SGD(0.1, 3, 16, 0), seeds=range(len(nets))).follow(
            lambda i, net: evaluate(net, x, y)[:1] and {}, [0, 1, 3]
        )
        assert torch.equal(torch.random.get_rng_state(), before)
        results.append(nets)
    assert all(map(same, *results))


def test_running_loss_and_error_are_of_batches_as_they_came_up():
    x, y = samples(dtype=DOUBLE)
    nets = [mlp(8, 16, 3, seed=i, dtype=DOUBLE, leak=0.1 * (i == 2)) for i in range(3)]
    copies = copy.deepcopy(nets)
    together = Ensemble(nets, x, y, SGD(0.1, 3, 16, 0), seeds=[5, 6, 7])
    assert together.loss.isnan().all() and together.error.isnan().all()
    randoms = [torch.Generator().manual_seed(seed) for seed in (5, 6, 7)]
    for epoch in together:
        if epoch == 0:
            continue
        for i, net in enumerate(copies):
            losses, wrong = [], 0
            for rows in torch.randperm(50, generator=randoms[i]).split(16):
                logits = net(x[rows])
                each = nn.functional.cross_entropy(logits, y[rows], reduction="none")
                losses += each.tolist()
                wrong += sum(int(a) != int(b) for a, b in zip(logits.argmax(1), y[rows]))
                net.zero_grad()
                each.mean().backward()
                with torch.no_grad():
                    for p in net.parameters():
                        p -= 0.1 * p.grad
            assert len(losses) == 50
            assert float(together.loss[i]) == pytest.approx(np.mean(losses), abs=1e-12)
            assert float(together.error[i]) == wrong / 50


def test_table_and_progress(capsys):
    x, y = samples()
    nets = [mlp(8, 16, 3, seed=i) for i in range(2)]
    seen = []

    def measure(i, net):
        assert not net.training and net is nets[i]
        seen.append(i)
        return [{"part": p, "value": np.float32(i)} for p in "ab"]

    together = Ensemble(nets, x, y, SGD(0.1, 4, 16, 0), seeds=[0, 1])
    table = together.follow(measure, range(1, 4, 2), progress=True)
    assert seen == [0, 1, 0, 1]
    assert table.columns.tolist() == [
        "network", "epoch", "diverged", "running_loss", "part", "value",
    ]  # fmt: skip
    assert table.epoch.tolist() == [1] * 4 + [3] * 4
    assert table.network.tolist() == [0, 0, 1, 1] * 2
    assert table.part.tolist() == ["a", "b"] * 4
    last = table[table.epoch == 3].running_loss[::2].tolist()
    assert last == pytest.approx(together.loss.tolist(), abs=0)
    out, err = capsys.readouterr()
    assert not out
    assert "training 2 networks" in err and "3/3" in err
    assert f"loss={together.loss.mean():.4g}" in err
    assert f"accuracy={1 - together.error.mean():.2%}" in err
    together.follow(measure, [4])  # goes on from there
    assert together.epoch == 4 and seen[4:] == [0, 1]
    assert capsys.readouterr() == ("", "")


def test_labels_of_each_network():
    """One diverges; networks may have outputs for their own labels only."""
    x, _ = samples(dtype=DOUBLE)
    nets = [mlp(8, 16, 3, seed=i, dtype=DOUBLE) for i in range(4)]
    nets += [conv(4, DOUBLE), mlp(8, 16, 5, seed=5, dtype=DOUBLE)]
    y = torch.stack([samples(classes=5 if i == 5 else 3, seed=i)[1] for i in range(6)])
    given = [SGD(1e200 if i == 1 else 0.1, 4, 16, 0) for i in range(6)]
    alone = copy.deepcopy(nets)
    together = Ensemble(nets, x, y, given, seeds=range(6))
    list(together)
    assert together.diverged.tolist() == [i == 1 for i in range(6)]
    for i in (0, 2, 3, 4, 5):
        list(train(alone[i], x, y[i], given[i], seed=i))
        assert apart(nets[i], alone[i]) < 1e-10
    assert together.error[5] > 0


def test_networks_of_images_and_labels_of_other_whole_types():
    x, y = samples()
    one, other = (nn.Sequential(nn.Flatten(), *mlp(8, 16, 3, seed=0)) for _ in range(2))
    list(Ensemble([one], x.reshape(50, 2, 4), y.int(), SGD(0.1, 2, 16, 0), seeds=[0]))
    list(train(other, x.reshape(50, 2, 4), y.to(torch.uint8), SGD(0.1, 2, 16, 0), seed=0))
    assert same(one, other)


# Stopping and resuming

EPOCHS = [0, 2, 5, 6]


def start(kind):
    """A training anew, as its script would begin it."""
    x, y = samples()
    if kind == "perceptrons":
        nets = [mlp(8, 16, 3, seed=i) for i in range(3)] + [mlp(8, 6, 5, 3, seed=3)]
    elif kind == "dropout and batch norm":
        nets = [conv(i) for i in range(2)]
    else:
        nets = [mlp(8, 16, 3, seed=i) for i in range(4)] + [conv(4), conv(5)]
    rates = [SGD(0.05 * (i + 1), 6, 16, 0) for i in range(len(nets))]
    if kind == "recipes":
        rates = [Recipe(0.02, 6, 16, 2, **what) for what in RECIPES] + rates[-2:]
    if kind == "diverged":  # in the first epoch, and the second
        rates[1] = rates[4] = SGD(1e30, 6, 16, 0)
        rates[2] = SGD(1e30, 6, 16, 2, 0.01)
    return Ensemble(nets, x, y, rates, seeds=range(len(nets))), x, y


KINDS = ["perceptrons", "dropout and batch norm", "recipes", "diverged"]


def measuring(x, y):
    def measure(i, net):
        loss, error = evaluate(net, x, y)
        norm = torch.linalg.vector_norm(next(net.parameters()).detach())
        return {"loss": loss, "error": np.float32(error), "norm": norm, "odd": i % 2 == 1}

    return measure


@pytest.fixture(scope="module")
def whole():
    """Table and networks of each training without a stop or a file."""
    found = {}
    for kind in KINDS:
        training, x, y = start(kind)
        found[kind] = training.follow(measuring(x, y), EPOCHS), training
    return found


def check_resumed(kind, file, whole, **options):
    training, x, y = start(kind)
    epochs = Counter()
    advance = training.advance

    def counting():
        epochs[training.epoch + 1] += 1
        advance()

    training.advance = counting
    table = training.follow(measuring(x, y), EPOCHS, checkpoint=file, **options)
    expected, other = whole[kind]
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert all(map(same, training.nets, other.nets))
    for name in ("loss", "error", "diverged"):
        assert torch.equal(
            getattr(training, name).nan_to_num(-1), getattr(other, name).nan_to_num(-1)
        )
    assert not any(net.training for net in training.nets)
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    return sorted(epochs)


def stopping(monkeypatch, after, stop):
    """Call `stop` at that step of any network or stack, in the middle of an epoch."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores Ctrl-C
    for owner in (Stack, torch.optim.SGD):
        steps, step = count(1), owner.step

        def stepping(*arguments, steps=steps, step=step):
            if next(steps) == after:
                stop()
            return step(*arguments)

        monkeypatch.setattr(owner, "step", stepping)


def test_the_trainings_are_what_they_should(whole):
    for kind, (table, training) in whole.items():
        diverged = [1, 2, 4] if kind == "diverged" else []
        assert training.diverged.nonzero().flatten().tolist() == diverged
        assert len(table) == len(EPOCHS) * len(training.nets)
        assert (table.diverged == (table.network.isin(diverged) & (table.epoch > 0))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_exception_in_a_measure(kind, tmp_path, whole):
    file = tmp_path / "training.pt"
    training, x, y = start(kind)

    def failing(i, net):
        if training.epoch == 5 and i == 0:
            raise ZeroDivisionError
        return measuring(x, y)(i, net)

    with pytest.raises(ZeroDivisionError):
        training.follow(failing, EPOCHS, checkpoint=file)
    assert check_resumed(kind, file, whole) == [3, 4, 5, 6]  # kept at epoch 2
    assert check_resumed(kind, file, whole) == []


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_within_an_epoch(kind, tmp_path, whole, monkeypatch):
    file = tmp_path / "new" / "training.pt"
    training, x, y = start(kind)
    with monkeypatch.context() as patch:
        stopping(patch, 17, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            training.follow(measuring(x, y), EPOCHS, checkpoint=file, every=0)
    reached = training.epoch
    assert 0 < reached < 6 and not any(net.training for net in training.nets)
    # The same object cannot go on without the file ...
    for go_on in (training.advance, lambda: training.follow(measuring(x, y), [6])):
        with pytest.raises(InputError, match="halfway through an epoch") as caught:
            go_on()
        assert one_sentence(str(caught.value))
    kept = file.read_bytes()
    assert check_resumed(kind, file, whole) == list(range(reached, 7))
    # ... but it does with it.
    file.write_bytes(kept)
    table = training.follow(measuring(x, y), EPOCHS, checkpoint=file)
    pd.testing.assert_frame_equal(table, whole[kind][0], check_exact=True)
    assert all(map(same, training.nets, whole[kind][1].nets))


def killed(kind, file):
    training, x, y = start(kind)
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 17, lambda: os.kill(os.getpid(), signal.SIGKILL))
        training.follow(measuring(x, y), EPOCHS, checkpoint=file, every=0)


def interrupted(file):
    training, x, y = start("perceptrons")
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 17, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            training.follow(measuring(x, y), EPOCHS, checkpoint=file, every=0)
        except KeyboardInterrupt:
            os._exit(3)


def test_killed_processes(tmp_path, whole):
    """At the 17th step; another process, this one, then goes on."""
    files = [tmp_path / str(i) / "training.pt" for i in range(len(KINDS) + 1)]
    processes = [PROCESSES.Process(target=killed, args=pair) for pair in zip(KINDS, files)]
    processes.append(PROCESSES.Process(target=interrupted, args=(files[-1],)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert [p.exitcode for p in processes] == [-signal.SIGKILL] * len(KINDS) + [3]
    for kind, file in zip([*KINDS, "perceptrons"], files):
        epochs = check_resumed(kind, file, whole)
        assert 1 <= len(epochs) < 6


def test_a_checkpoint_changes_nothing(tmp_path, whole):
    for kind in KINDS:
        file = tmp_path / kind / "training.pt"
        assert check_resumed(kind, file, whole, every=0) == list(range(1, 7))
        assert check_resumed(kind, file, whole) == []


def test_resumed_again_and_again(tmp_path, whole):
    """Each time one epoch is trained."""
    file = tmp_path / "training.pt"
    for _ in range(5):
        training, x, y = start("diverged")
        calls, advance = count(), training.advance

        def once(calls=calls, advance=advance):
            if next(calls):
                raise KeyboardInterrupt
            advance()

        training.advance = once
        with pytest.raises(KeyboardInterrupt):
            training.follow(measuring(x, y), EPOCHS, checkpoint=file, every=0)
    assert check_resumed("diverged", file, whole) == [6]


def test_state_goes_into_other_networks():
    training, *_ = start("diverged")
    for _ in range(3):
        training.advance()
    state = copy.deepcopy(training.state_dict())
    other, *_ = start("diverged")
    other.load_state_dict(state)
    list(training), list(other)
    assert other.epoch == 6 and all(map(same, training.nets, other.nets))


def changed(change):
    """The arguments of a training after one change, and its epochs."""
    x, y = samples()
    nets, given, seeds, epochs = [mlp(8, 16, 3, seed=i) for i in range(2)], SGD(0.1, 6), [0, 1], [6]
    if change == "samples":
        x[3, 3] += 1
    elif change == "labels":
        y[3] = (y[3] + 1) % 3
    elif change == "networks":
        nets[1] = mlp(8, 16, 3, seed=7)
    elif change == "shape":
        nets[1] = mlp(8, 15, 3, seed=1)
    elif change == "seeds":
        seeds = [1, 0]
    elif change == "settings":
        given = [SGD(0.1, 6), SGD(0.1, 6, warmup_from=2e-5)]
    elif change == "longer":
        given = SGD(0.1, 7)
    elif change == "epochs":
        epochs = [5, 6]
    elif change == "fewer":
        nets, seeds = nets[:1], seeds[:1]
    return Ensemble(nets, x, y, given, seeds=seeds), epochs


@pytest.mark.parametrize(
    "change",
    ["samples", "labels", "networks", "shape", "seeds", "settings", "longer", "epochs", "fewer"],
)
def test_checkpoint_of_another_training(change, tmp_path):
    file = tmp_path / "training.pt"
    training, epochs = changed("nothing")
    training.follow(lambda i, net: {}, epochs, checkpoint=file)
    kept = file.read_bytes()
    training, epochs = changed(change)
    before = copy.deepcopy(training.nets)
    with pytest.raises(InputError, match="is of another training; delete it") as caught:
        training.follow(lambda i, net: {}, epochs, checkpoint=file)
    assert one_sentence(str(caught.value)) and str(file) in str(caught.value)
    assert file.read_bytes() == kept and all(map(same, training.nets, before))
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
    training, epochs = changed("nothing")
    assert len(training.follow(lambda i, net: {}, epochs, checkpoint=str(file))) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "bit", "tensor", "pickle"])
def test_damaged_checkpoint(damage, tmp_path):
    file = tmp_path / "training.pt"
    training, epochs = changed("nothing")
    training.follow(lambda i, net: {}, epochs, checkpoint=file)
    content = file.read_bytes()
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        file.write_text("epoch 3\n" * 100)
    elif damage == "flipped":
        at = content.index(b"what")
        file.write_bytes(content[:at] + b"wham" + content[at + 4 :])
    elif damage == "bit":  # of a weight
        at = content.index(training.nets[0][0].weight.detach().numpy().tobytes())
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif damage == "tensor":
        torch.save(torch.zeros(3), file)
    else:
        torch.save({"what": os.system}, file)  # nothing of the kind is executed
    kept = file.read_bytes()
    training, epochs = changed("nothing")
    with pytest.raises(InputError, match=r"is damaged \(\w+\); delete it") as caught:
        training.follow(lambda i, net: {}, epochs, checkpoint=file)
    assert one_sentence(str(caught.value)) and str(file) in str(caught.value)
    assert training.epoch == 0 and file.read_bytes() == kept
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_checkpoint_in_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    training, epochs = changed("nothing")
    for place in (tmp_path / "file" / "training.pt", tmp_path):
        with pytest.raises(OSError) as caught:
            training.follow(lambda i, net: {}, epochs, checkpoint=place)
        assert one_sentence(explain_os_error(caught.value, place))
        assert training.epoch == 0  # nothing was trained for nothing
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_that_its_disk_does_not_take_is_named(tmp_path):
    training, epochs = changed("nothing")
    with pytest.raises(OSError) as caught, small_files():
        training.follow(lambda i, net: {}, epochs, checkpoint=tmp_path / "training.pt")
    told = f"{tmp_path}/training.pt could not be written (File too large)"
    assert explain_os_error(caught.value).startswith(told)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_stopped_while_a_checkpoint_is_written(error, tmp_path, whole, monkeypatch):
    file = tmp_path / "training.pt"
    training, x, y = start("perceptrons")
    saves, save = count(1), torch.save

    def failing(told, to):
        save(told, to)
        if next(saves) == 3:
            to.truncate(100)
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", failing)
        with pytest.raises(type(error)):
            training.follow(measuring(x, y), EPOCHS, checkpoint=file)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
    assert check_resumed("perceptrons", file, whole) == [3, 4, 5, 6]


def test_a_checkpoint_is_written_every_so_often(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        ensemble, "save", lambda file, what, state, rows: saved.append(state["epoch"])
    )
    training, _ = changed("nothing")
    # An epoch takes ten seconds.
    monkeypatch.setattr(ensemble.time, "monotonic", lambda: 10.0 * training.epoch)
    training.follow(lambda i, net: {}, [6], checkpoint=tmp_path / "c.pt", every=20)
    assert saved == [2, 4, 6]
    saved.clear()
    training, _ = changed("nothing")
    training.follow(lambda i, net: {}, [2, 6], checkpoint=tmp_path / "c.pt", every=1e9)
    assert saved == [2, 6]


def test_the_checkpoint_does_not_grow_with_what_diverged(tmp_path):
    x, y = samples()
    file, sizes = tmp_path / "training.pt", []
    for rate in (0.1, 1e30):
        nets = [mlp(8, 64, 64, 3, seed=i) for i in range(8)]
        given = [SGD(rate if i < 6 else 0.1, 8, 16, i, 1e-5) for i in range(8)]
        training = Ensemble(nets, x, y, given, seeds=range(8))
        training.follow(lambda i, net: {}, [8], checkpoint=file)
        assert int(training.diverged.sum()) == (6 if rate > 1 else 0)
        sizes.append(file.stat().st_size)
        file.unlink()
    assert sizes[1] < 1.1 * sizes[0]


# Divergence


def until_diverged(net, x, y, settings, seed):
    """By hand: steps until the loss is not finite, and at which epoch and batch that was."""
    random = torch.Generator().manual_seed(seed)
    for epoch in range(1, settings.epochs + 1):
        for batch, rows in enumerate(torch.randperm(len(x), generator=random).split(16)):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            if not loss.isfinite():
                return epoch, batch
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            for p, gradient in zip(net.parameters(), gradients):
                p.data -= settings.rate(epoch, batch, len(x)) * gradient
    raise AssertionError


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_divergence_of_one_leaves_the_others(warmup, leak):
    x, y = samples(dtype=DOUBLE)
    nets = [mlp(8, 16, 3, seed=i, dtype=DOUBLE, leak=leak) for i in range(4)]
    given = [SGD(0.1, 5, 16, 0)] * 4
    given[1] = SGD(1e200, 5, 16, warmup, 0.01)
    by_hand = copy.deepcopy(nets[1])
    epoch, batch = until_diverged(by_hand, x, y, given[1], 1)
    assert epoch == 1 and 0 < batch < 3  # in the middle
    others = [0, 2, 3]
    alone, losses = one_by_one([nets[i] for i in others], x, y, given[:3:2] + given[3:], others)
    without = Ensemble(copy.deepcopy([nets[i] for i in others]), x, y, SGD(0.1, 5, 16, 0),
                       seeds=others)  # fmt: skip
    list(without)
    single = copy.deepcopy(nets[1])
    with pytest.raises(Diverged, match=f"in epoch {epoch}"):
        list(train(single, x, y, given[1], seed=1))

    together = Ensemble(nets, x, y, given, seeds=range(4))
    table = together.follow(lambda i, net: {"loss": evaluate(net, x, y)[0]}, range(6))
    assert together.diverged.tolist() == [False, True, False, False]
    for i, one, two in zip(others, alone, without.nets):
        assert apart(nets[i], one) < 1e-10 and apart(nets[i], two) < 1e-10
    assert together.loss[others].tolist() == pytest.approx(without.loss.tolist(), abs=1e-10)
    assert together.error[others].tolist() == pytest.approx(without.error.tolist(), abs=1e-10)
    found = table[table.network != 1].pivot(index="network", columns="epoch", values="loss")
    assert found.to_numpy() == pytest.approx(losses, abs=1e-10)

    for net in (nets[1], single):
        torch.testing.assert_close(weights(net), weights(by_hand), rtol=1e-10, atol=0)
        assert not net.training
    assert together.loss[1].isnan() and together.error[1].isnan()
    gone = table[table.network == 1]
    assert gone.epoch.tolist() == list(range(6))
    assert gone.diverged.tolist() == [e >= epoch for e in range(6)]
    assert gone.loss.isna().tolist() == [e >= epoch for e in range(6)]
    assert gone.running_loss.isna().tolist() == [e == 0 or e >= epoch for e in range(6)]


def test_all_diverge(capsys):
    x, y = samples()
    nets = [*(mlp(8, 16, 3, seed=i) for i in range(3)), conv(3)]
    given = [SGD(1e30, 4, 16, i) for i in range(4)]
    together = Ensemble(nets, x, y, given, seeds=range(4))
    table = together.follow(
        lambda i, net: [{"layer": layer, "one": 1} for layer in range(2)], [0, 4], progress=True
    )
    assert together.epoch == 4 and together.diverged.all()
    assert table.epoch.tolist() == [0] * 8 + [4] * 4
    assert table[table.epoch == 4][["layer", "one", "running_loss"]].isna().all(axis=None)
    assert table.diverged.dtype == bool and table.diverged.tolist() == [False] * 8 + [True] * 4
    assert "diverged=4" in capsys.readouterr().err
    for net in nets:
        assert weights(net).isfinite().all()


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nets": [], "seeds": []}, "seeds must be one for each network, at least one, got 0"),
        ({"seeds": [0]}, "seeds must be one for each network, at least one, got 1 for 2"),
        ({"seeds": [0, -1]}, "seed must be a whole number of at least 0, got -1"),
        ({"seeds": [0, 1.0]}, "seed must be a whole number"),
        ({"settings": [SGD()]}, "settings must be one for each network, at least one, got 1 for 2"),
        ({"settings": [SGD(epochs=5), SGD(epochs=6)]}, "settings must agree in epochs and batch"),
        ({"settings": [SGD(batch=5), SGD(batch=6)]}, "settings must agree in epochs and batch"),
        ({"y": torch.tensor([0, 1, 2, 3])}, "below the network's number of outputs, got 0 to 3"),
        ({"y": torch.tensor([0, 1, 2, -1])}, "y must hold labels from 0 .* got -1 to 2"),
        ({"y": torch.zeros(4)}, "y must hold one whole-number label .* dtype torch.float32"),
        ({"y": torch.zeros(4, dtype=torch.bool)}, "y must hold one whole-number label"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, "for each of the 4 samples of x"),
        ({"x": torch.zeros(0, 8), "y": torch.zeros(0, dtype=torch.int64)}, "at least one"),
        ({"x": torch.zeros(4, 7)}, r"x must hold samples that the network takes, got .*\(4, 7\)"),
        ({"x": torch.zeros(4, 2, 8)}, r"for outputs of shape \(2, 3\)"),
        ({"x": torch.full((4, 8), torch.nan)}, "x must be finite, but 32 of its 32 entries"),
        ({"x": torch.full((4, 8), -torch.inf)}, "x must be finite"),
        ({"nets": [mlp(8, 4, 3, seed=0), mlp(8, 4, 2, seed=0)]}, "got 0 to 2 for .* shape \\(2,"),
        ({"nets": [mlp(8, 4, 3, seed=0), mlp(7, 4, 3, seed=0)]}, "x must hold samples that the"),
        ({"y": torch.zeros(3, 4, dtype=torch.int64)}, "or one for each of the 2, got shape .3, 4"),
        ({"y": torch.zeros(2, 3, dtype=torch.int64)}, "for each of the 4 samples of x"),
        ({"y": torch.tensor([[0, 1, 2, 0], [0, 1, 3, 0]])}, "got 0 to 3 for outputs of shape .3,"),
        ({"nets": [mlp(8, 4, 3, seed=0)] * 2}, "nets must be networks of their own"),
        (
            {"nets": [mlp(8, 4, 3, seed=0), mlp(8, 4, 3, seed=0, dtype=DOUBLE)]},
            "nets must be of one dtype, got torch.float32, torch.float64",
        ),
    ],
)
def test_refuses(change, message):
    given = {
        "nets": [mlp(8, 4, 3, seed=i) for i in range(2)],
        "x": torch.zeros(4, 8),
        "y": torch.tensor([0, 1, 2, 0]),
        "settings": SGD(0.1, 3),
        "seeds": [0, 1],
    } | change
    seeds = given.pop("seeds")
    with pytest.raises(InputError, match=message) as caught:
        Ensemble(*given.values(), seeds=seeds)
    assert one_sentence(str(caught.value))


@pytest.mark.parametrize(
    "epochs", [[], [0, 0], [2, 1], [-1, 2], [0, 4], [0, 1.0], [True, 2], np.arange(3)]
)
def test_refuses_epochs(epochs, tmp_path):
    x, y = samples()
    training = Ensemble([mlp(8, 4, 3, seed=0)], x, y, SGD(0.1, 3), seeds=[0])
    with pytest.raises(InputError, match="epochs must be whole numbers that rise") as caught:
        training.follow(lambda i, net: {}, epochs, checkpoint=tmp_path / "new" / "c.pt")
    assert one_sentence(str(caught.value)) and not list(tmp_path.iterdir())


def test_refuses_epochs_that_are_over():
    x, y = samples()
    training = Ensemble([mlp(8, 4, 3, seed=0)], x, y, SGD(0.1, 3), seeds=[0])
    list(training)
    with pytest.raises(InputError, match="epochs must not be over, got 1 after 3") as caught:
        training.follow(lambda i, net: {}, [1, 3])
    assert one_sentence(str(caught.value))
