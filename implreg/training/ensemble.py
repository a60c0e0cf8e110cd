"""Many networks trained side by side, measured on the way, stopped and taken up again."""

import hashlib
import io
import json
import os
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from implreg.errors import InputError, prepare_folder
from implreg.training.sgd import SGD, Diverged, check_samples, generator, one_epoch
from implreg.training.stack import Stack, shape_of

# Weights of a stack that the processor's cache should hold: beyond, every step of every network
# would fetch them from memory anew, while one after the other they stay.
_CACHED = 2**22
_DELAY = 2  # seconds before a progress bar shows

Rows = Sequence[Mapping[str, Any]]


class Ensemble:
    """Networks that are trained side by side, in place, each as `train` would train it alone.

    Multilayer perceptrons of one shape are stacked: one batched product then serves many of them,
    several times faster than one after the other. All other networks take turns, epoch by epoch. A
    network whose loss is no longer finite is left as it was before that step and marked as
    diverged; the others go on.

    Args:
        nets: map (N, ...) to logits (N, classes), of one dtype and on one device; no two share
            parameters.
        x: training samples, (N, ...), the same for all.
        y: labels, (N,) int64, or those of each network, (S, N).
        settings: of the optimiser, for all networks or one for each; epochs and batch must agree.
        seeds: of the order of samples and of dropout, one for each network.

    Attributes:
        epoch: how many were trained; 0 before the first step.
        loss: mean loss in the last epoch, each sample's as its batch came up, (S,) float64; NaN
            before the first one and of diverged networks.
        error: share of samples that were classified wrongly then, (S,) float64.
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
        self.settings = [settings] * len(nets) if isinstance(settings, SGD) else list(settings)
        for name, given in (("seeds", seeds), ("settings", self.settings)):
            if not nets or len(given) != len(nets):
                raise InputError(
                    f"{name} must be one for each network, at least one, got {len(given)} for "
                    f"{len(nets)} networks; pass lists of one length."
                )
        first = self.settings[0]
        if any((s.epochs, s.batch) != (first.epochs, first.batch) for s in self.settings):
            raise InputError(
                "settings must agree in epochs and batch, got several; train such networks in "
                "ensembles of their own."
            )
        _check_apart(self.nets)
        if y.ndim == 2 and len(y) != len(self.nets):
            raise InputError(
                f"y must be one list of labels for all networks or one for each of the "
                f"{len(self.nets)}, got shape {tuple(y.shape)}; pass (N,) or (S, N)."
            )
        if y.ndim == 2:
            for net, own in zip(self.nets, y, strict=True):
                check_samples([net], x, own)
        else:
            check_samples(self.nets, x, y)
        parameter = next(self.nets[0].parameters())
        self.x, self.y = x.to(parameter), y.to(parameter.device, torch.int64)
        self.y = self.y.expand(len(self.nets), -1)
        self.epochs, self.batch = first.epochs, first.batch
        self.seeds = list(seeds)
        self._random = [generator(seed) for seed in seeds]
        self.epoch = 0
        self.loss = torch.full((len(self.nets),), torch.nan, dtype=torch.float64)
        self.error = self.loss.clone()
        self.diverged = torch.zeros(len(self.nets), dtype=torch.bool)
        self._groups = self._stacks()
        self._whole = True  # no epoch was stopped halfway
        self._digest: str | None = None

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
            if stack is None:
                self._alone(members[0])
            else:
                self._together(members, stack)
        if any(self.diverged[i] for members, _ in self._groups for i in members):
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
        kept = None
        if checkpoint is not None:
            kept = _Checkpoint(Path(checkpoint), self, list(epochs))
            rows = kept.restore()
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
                if kept and (measured or time.monotonic() - saved >= every):
                    kept.save(rows)
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
            "random": [random.get_state() for random in self._random],
            "loss": self.loss,
            "error": self.error,
            "diverged": self.diverged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for net, parameters in zip(self.nets, state["nets"], strict=True):
            net.load_state_dict(parameters)
        for random, then in zip(self._random, state["random"], strict=True):
            random.set_state(then)
        self.epoch = state["epoch"]
        self.loss, self.error, self.diverged = (
            state[name].clone() for name in ("loss", "error", "diverged")
        )
        self._groups = self._stacks()
        self._whole = True

    def fingerprint(self) -> str:
        """A digest of networks, data, settings and seeds: what a training depends on.

        Networks count as they are when this is called first, so that it stays while they train.
        """
        if self._digest is not None:
            return self._digest
        digest = hashlib.sha256(json.dumps([self.seeds, list(map(asdict, self.settings))]).encode())
        for tensor in (self.x, self.y, *(p for n in self.nets for p in n.state_dict().values())):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        self._digest = digest.hexdigest()
        return self._digest

    def _check_whole(self) -> None:
        if not self._whole:
            raise InputError(
                f"nets must not be those of a training that stopped halfway through an epoch, here "
                f"{self.epoch}; start from new networks or from a checkpoint."
            )

    def _stacks(self) -> list[tuple[list[int], Stack | None]]:
        """The networks that still train, in groups; those without a stack are single ones."""
        alike: dict[object, list[int]] = defaultdict(list)
        for i, net in enumerate(self.nets):
            if not self.diverged[i]:
                alike[shape_of(net) or i].append(i)
        groups: list[tuple[list[int], Stack | None]] = []
        for shape, members in alike.items():
            if isinstance(shape, int):
                groups.append((members, None))
                continue
            net = self.nets[members[0]]
            size = sum(p.numel() * p.element_size() for p in net.parameters())
            most = max(torch.get_num_threads(), _CACHED // size)
            if self.x.device.type != "cpu":
                most = len(members)
            for start in range(0, len(members), most):
                block = members[start : start + most]
                groups.append((block, Stack([self.nets[i] for i in block])))
        return groups

    def _alone(self, i: int) -> None:
        loss = error = torch.nan
        try:
            loss, error = one_epoch(
                self.nets[i], self.x, self.y[i], self.settings[i], self.epoch, self._random[i]
            )
        except Diverged:
            self.diverged[i] = True
        self.loss[i], self.error[i] = loss, error

    def _together(self, members: list[int], stack: Stack) -> None:
        orders = torch.stack(
            [torch.randperm(len(self.x), generator=self._random[i]) for i in members]
        ).to(self.x.device)
        labels = self.y[members].gather(1, orders)
        rates = self.x.new_tensor([self.settings[i].rate(self.epoch) for i in members])
        loss, wrong = self.x.new_zeros(2, len(members))
        start = 0
        while start < len(self.x):
            rows = orders[:, start : start + self.batch]
            x = self.x.index_select(0, rows.reshape(-1)).view(*rows.shape, -1)
            batch_loss, batch_wrong = stack.step(x, labels[:, start : start + self.batch], rates)
            fine = batch_loss.isfinite().cpu()
            if bool(fine.all()):
                loss += batch_loss * rows.shape[1]
                wrong += batch_wrong
                start += self.batch
                continue
            lost = [i for i, ok in zip(members, fine.tolist(), strict=True) if not ok]
            self.diverged[lost] = True
            for i in lost:  # or it would keep the tensors of all
                for parameter in self.nets[i].parameters():
                    parameter.data = parameter.data.clone()
            self.loss[lost] = self.error[lost] = torch.nan
            members = [i for i in members if not self.diverged[i]]
            if not members:
                return
            keep = fine.to(self.x.device)
            orders, labels, rates, loss, wrong = (
                x[keep] for x in (orders, labels, rates, loss, wrong)
            )
            stack = Stack([self.nets[i] for i in members])
        self.loss[members] = loss.double().cpu() / len(self.x)
        self.error[members] = wrong.double().cpu() / len(self.x)

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
            found: Mapping[str, Any] | Rows = {}
            if not self.diverged[i]:
                found = measure(i, net)
            for row in [found] if isinstance(found, Mapping) else found:
                # Numbers of NumPy and torch as they come out of a checkpoint.
                plain = {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
                rows.append(known | plain)
        return rows


def _check_apart(nets: Sequence[nn.Module]) -> None:
    seen: set[int] = set()
    dtypes: set[torch.dtype] = set()
    for net in nets:
        own = list(net.parameters())
        if not seen.isdisjoint(map(id, own)):
            raise InputError(
                "nets must be networks of their own, but two of them share parameters; make each "
                "anew, for example in a list comprehension."
            )
        seen.update(map(id, own))
        dtypes.update(p.dtype for p in own)
    if len(dtypes) > 1:
        raise InputError(
            f"nets must be of one dtype, got {', '.join(sorted(map(str, dtypes)))}; convert them "
            f"or train them in ensembles of their own."
        )


def _check_epochs(epochs: Sequence[int], last: int) -> None:
    epochs = list(epochs)
    whole = all(isinstance(e, int) and not isinstance(e, bool) for e in epochs)
    rising = whole and all(a < b for a, b in pairwise(epochs))
    if not epochs or not rising or not 0 <= epochs[0] <= epochs[-1] <= last:
        raise InputError(
            f"epochs must be whole numbers that rise from 0 or more to at most {last}, got "
            f"{epochs}; choose such epochs."
        )


class _Checkpoint:
    """The file of one training: written beside its place and moved there, so always whole."""

    def __init__(self, path: Path, ensemble: Ensemble, epochs: list[int]) -> None:
        self.path, self.ensemble = path, ensemble
        self.what = f"{ensemble.fingerprint()} {epochs}"
        prepare_folder(path.parent)

    def restore(self) -> list[dict[str, Any]]:
        """Bring the ensemble to where it was and return the rows up to there; none, if new."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as parts:
                if name := parts.testzip():  # torch looks at no checksum
                    raise zipfile.BadZipFile(name)
            state = dict(torch.load(io.BytesIO(content), weights_only=True))
            what, rows = state["what"], json.loads(state["rows"])
        except Exception as error:  # torch has no class of its own for a damaged file
            raise InputError(
                f"checkpoint must be a file that this training wrote, but {self.path} is damaged "
                f"({type(error).__name__}); delete it to train from the start."
            ) from error
        if what != self.what:
            raise InputError(
                f"checkpoint must be of the same networks, samples, settings, seeds and epochs, "
                f"but {self.path} is of another training; delete it or name another file."
            )
        self.ensemble.load_state_dict(state["ensemble"])
        found: list[dict[str, Any]] = rows
        return found

    def save(self, rows: list[dict[str, Any]]) -> None:
        """Write networks, random states and rows."""
        told = {
            "what": self.what,
            "rows": json.dumps(rows),
            "ensemble": self.ensemble.state_dict(),
        }
        part = self.path.with_name(f".{self.path.name}.{uuid4().hex}.part")
        try:
            with part.open("wb") as file:
                torch.save(told, file)
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)
