"""Many networks trained side by side, measured on the way, stopped and taken up again."""

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from implreg.errors import InputError, prepare_folder
from implreg.training.checkpoint import restore, save
from implreg.training.loop import Learner, one_epoch
from implreg.training.recipes import SGD
from implreg.training.stack import Stack, shape_of

# Weights of a stack that the processor's cache should hold: beyond, every step of every network
# would fetch them from memory anew, while one after the other they stay.
_CACHED = 2**22
_DELAY = 2  # seconds before a progress bar shows

Rows = Sequence[Mapping[str, Any]]


class Ensemble:
    """Networks that are trained side by side, in place, each as `train` would train it alone.

    Multilayer perceptrons of one shape that are trained by plain `SGD` are stacked: one batched
    product then serves many of them, several times faster than one after the other. All other
    networks take turns, epoch by epoch. A network whose loss is no longer finite is left as it was
    before that step and marked as diverged; the others go on.

    Args:
        nets: map (N, ...) to logits (N, classes), of one dtype and on one device; no two share
            parameters.
        x: training samples, (N, ...), the same for all.
        y: labels, (N,) int64, or those of each network, (S, N).
        settings: `SGD` or a `Recipe`, for all networks or one for each; epochs and batch must
            agree.
        seeds: of the order of samples, dropout and noise, one for each network.

    Attributes:
        epoch: how many were trained; 0 before the first step.
        loss: mean loss in the last epoch, each sample's as its batch came up, (S,) float64; NaN
            before the first one and of diverged networks.
        error: share of samples that were classified wrongly then, (S,) float64; of samples that a
            recipe disturbs, by their own labels.
        diverged: which networks have diverged, (S,) bool.

    Raises:
        InputError: no network, lists of other lengths, samples and labels that do not fit, settings
            that do not agree, or networks that share parameters or are of several dtypes.

    >>> from implreg import mlp
    >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> ensemble = Ensemble([mlp(4, 8, 2, seed=s) for s in (0, 1)], x, y, SGD(0.1, 3), seeds=(0, 1))
    >>> [epoch for epoch in ensemble], tuple(ensemble.loss.shape)
    ([0, 1, 2, 3], (2,))
    """

    def __init__(
        self,
        nets: Sequence[nn.Module],
        x: Tensor,
        y: Tensor,
        settings: SGD | Sequence[SGD],
        *,
        seeds: Sequence[int],
    ) -> None:
        self.nets = list(nets)
        given = [settings] * len(nets) if isinstance(settings, SGD) else list(settings)
        for name, listed in (("seeds", seeds), ("settings", given)):
            if not nets or len(listed) != len(nets):
                raise InputError(
                    f"{name} must be one for each network, at least one, got {len(listed)} for "
                    f"{len(nets)} networks; pass lists of one length."
                )
        if len({(one.epochs, one.batch) for one in given}) > 1:
            raise InputError(
                "settings must agree in epochs and batch, got several; train such networks in "
                "ensembles of their own."
            )
        self.epochs = given[0].epochs
        _check_apart(self.nets)
        if y.ndim == 2 and len(y) != len(nets):
            raise InputError(
                f"y must be one list of labels for all networks or one for each of the "
                f"{len(nets)}, got shape {tuple(y.shape)}; pass (N,) or (S, N)."
            )
        labels = y if y.ndim == 2 else [y] * len(nets)
        self._learners = [
            Learner(net, x, own, how, seed)
            for net, own, how, seed in zip(nets, labels, given, seeds, strict=True)
        ]
        self._x = x.to(next(self.nets[0].parameters()))
        self.epoch = 0
        self.loss, self.error = torch.full((2, len(nets)), torch.nan, dtype=torch.float64)
        self.diverged = torch.zeros(len(nets), dtype=torch.bool)
        self._settings, self._seeds = given, list(seeds)
        self._groups = self._stacks()
        self._whole = True  # no epoch was stopped halfway

    def __iter__(self) -> Iterator[int]:
        """Yield the epoch, now and after each one up to the last, which is trained when asked."""
        yield self.epoch
        while self.epoch < self.epochs:
            self.advance()
            yield self.epoch

    def advance(self) -> None:
        """Train all networks for one epoch."""
        self._check_whole()
        self._whole = False
        self.epoch += 1
        for members, stack in self._groups:
            learners = [self._learners[i] for i in members]
            found = one_epoch(learners, self._x, self.epoch, stack)
            self.loss[members], self.error[members] = found
        before, self.diverged = self.diverged, self.loss.isnan()
        if not self.diverged.equal(before):
            self._groups = self._stacks()
        self._whole = True

    def follow(
        self,
        measure: Callable[[int, nn.Module], Mapping[str, Any] | Rows],
        epochs: Sequence[int],
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Train until the last of `epochs` and measure every network after each of them.

        Args:
            measure: a function of the number of a network and the network, in eval mode, to a row
                of numbers, or to several rows. It must not change the network.
            epochs: after which to measure, rising; 0 is before the first step.
            checkpoint: file in which networks, random states and rows are kept while they train,
                and from which the same call goes on, bit for bit as if it had not been stopped. It
                is written at each measured epoch and every so often.
            every: seconds between two checkpoints, the most that Ctrl-C or a crash can cost.
            progress: show a bar with loss, error and the time left; by default only in a terminal
                and if the work takes longer than two seconds.

        Returns:
            One row per network, epoch and row of `measure`, with the columns `network`, `epoch`,
            `diverged` and `running_loss` (see `loss`) besides. A network that has diverged has one
            row at each later epoch, without measures.

        Raises:
            InputError: epochs that do not rise, exceed those of the settings, or are over; a
                checkpoint of other networks, data or settings, or a damaged one.
            OSError: the checkpoint cannot be written.
        """
        _check_epochs(epochs, self.epochs)
        rows: list[dict[str, Any]] = []
        file = None if checkpoint is None else Path(checkpoint)
        if file:
            prepare_folder(file.parent)
            what = f"{self.fingerprint} {list(epochs)}"
            if kept := restore(file, what):
                state, rows = kept
                self.load_state_dict(state)
        if not rows and epochs[0] < self.epoch:
            raise InputError(
                f"epochs must not be over, got {epochs[0]} after {self.epoch}; choose later ones "
                f"or start from new networks."
            )
        self._check_whole()
        saved = time.monotonic()
        with tqdm(
            total=epochs[-1],
            initial=self.epoch,
            disable=None if progress is None else not progress,
            delay=_DELAY if progress is None else 0,
            desc=f"training {len(self.nets)} networks",
            unit="epoch",
        ) as bar:
            while True:
                measured = self.epoch in epochs and not (rows and rows[-1]["epoch"] == self.epoch)
                if measured:
                    rows += self._measured(measure)
                if file and (measured or time.monotonic() - saved >= every):
                    save(file, what, self.state_dict(), rows)
                    saved = time.monotonic()
                if self.epoch >= epochs[-1]:
                    return pd.DataFrame(rows)
                self.advance()
                bar.update()
                bar.set_postfix(
                    loss=f"{self.loss.nanmean():.4g}", accuracy=f"{1 - self.error.nanmean():.2%}",
                    diverged=int(self.diverged.sum()), refresh=False,
                )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from: plain tensors, numbers and lists."""
        return {
            "epoch": self.epoch,
            "nets": [net.state_dict() for net in self.nets],
            "random": [one.random.get_state() for one in self._learners],
            "rules": [one.rule.state_dict() for one in self._learners],
            "loss": self.loss,
            "error": self.error,
            "diverged": self.diverged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Args:
            state: of an ensemble with the same networks, settings and data.
        """
        for one, net, random, rule in zip(
            self._learners, state["nets"], state["random"], state["rules"], strict=True
        ):
            one.net.load_state_dict(net)
            one.random.set_state(random)
            one.rule.load_state_dict(rule)
        self.epoch = state["epoch"]
        self.loss, self.error, self.diverged = (
            state[name].clone() for name in ("loss", "error", "diverged")
        )
        self._groups = self._stacks()
        self._whole = True

    @cached_property
    def fingerprint(self) -> str:
        """A digest of networks, data, settings and seeds: what a training depends on.

        Networks count as they are when it is asked for first, so that it stays while they train.
        """
        settings = json.dumps([self._seeds, list(map(asdict, self._settings))])
        digest = hashlib.sha256(settings.encode())
        weights = (p for net in self.nets for p in net.state_dict().values())
        for tensor in (self._x, *(one.y for one in self._learners), *weights):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _check_whole(self) -> None:
        if not self._whole:
            raise InputError(
                f"nets must not be those of a training that stopped halfway through an epoch, here "
                f"{self.epoch}; start from new networks or from a checkpoint."
            )

    def _stacks(self) -> list[tuple[list[int], Stack | None]]:
        """The networks that still train, in groups; those without a stack are single ones."""
        alike: dict[object, list[int]] = defaultdict(list)
        for i, one in enumerate(self._learners):
            if not self.diverged[i]:
                plain = type(self._settings[i]) is SGD
                alike[(plain and shape_of(one.net)) or i].append(i)
        groups: list[tuple[list[int], Stack | None]] = []
        for shape, members in alike.items():
            nets = [self.nets[i] for i in members]
            size = sum(p.numel() * p.element_size() for p in nets[0].parameters())
            most = max(torch.get_num_threads(), _CACHED // size)
            if self._x.device.type != "cpu":
                most = len(members)
            for k in range(0, len(members), most):
                stack = Stack(nets[k : k + most]) if isinstance(shape, tuple) else None
                groups.append((members[k : k + most], stack))
        return groups

    def _measured(
        self, measure: Callable[[int, nn.Module], Mapping[str, Any] | Rows]
    ) -> list[dict[str, Any]]:
        rows = []
        for i, net in enumerate(self.nets):
            known = {
                "network": i,
                "epoch": self.epoch,
                "diverged": bool(self.diverged[i]),
                "running_loss": float(self.loss[i]),
            }
            found: Mapping[str, Any] | Rows = {} if self.diverged[i] else measure(i, net)
            for row in [found] if isinstance(found, Mapping) else found:
                # Numbers of NumPy and torch as they come out of a checkpoint.
                plain = {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
                rows.append(known | plain)
        return rows


def _check_apart(nets: Sequence[nn.Module]) -> None:
    parameters = [p for net in nets for p in net.parameters()]
    if len(set(map(id, parameters))) < len(parameters):
        raise InputError(
            "nets must be networks of their own, but two of them share parameters; make each "
            "anew, for example in a list comprehension."
        )
    dtypes = sorted({str(p.dtype) for p in parameters})
    if len(dtypes) > 1:
        raise InputError(
            f"nets must be of one dtype, got {', '.join(dtypes)}; convert them or train them in "
            f"ensembles of their own."
        )


def _check_epochs(epochs: Sequence[int], last: int) -> None:
    epochs = list(epochs)
    rising = all(type(e) is int for e in epochs) and epochs == sorted({*epochs})
    if not epochs or not rising or not 0 <= epochs[0] <= epochs[-1] <= last:
        raise InputError(
            f"epochs must be whole numbers that rise from 0 or more to at most {last}, got "
            f"{epochs}; choose such epochs."
        )
