"""Chapter "After training": ensembles of trained networks against the limit of wide layers."""

import math
from dataclasses import dataclass
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures, theory
from implreg.datasets import Dataset, load, pairs
from implreg.networks import Initialisation, mlp
from implreg.tracing import Trace, trace
from implreg.tracing.paths import Pairs
from implreg.training import Diverged
from implreg_book.experiments.targets import descend
from implreg_book.experiments.types import Checked, Count, Index, NotNegative, Positive, below


@dataclass(frozen=True)
class Config(Checked):
    """Independent networks of one width, trained on the squared loss by gradient descent.

    All samples are used in every step, and the step size of each parameter is multiplied by its
    variance at initialisation, so that training means the same at every width.

    Args:
        dataset: name of the data set, see `implreg.datasets.load`.
        train: number of training samples.
        pairs: of training samples of the same class whose paths are looked at.
        width: of each hidden layer.
        depth: hidden layers.
        networks: how many.
        seed: of the weights of the first network; data and pairs are the same for all.
        steps: of gradient descent.
        step: size of a step, over the largest one that is stable in the limit of wide layers; in
            (0, 1).
        sigma_b: deviation of the hidden biases.
        points: positions on each path, odd.

    Raises:
        InputError: a number out of its range.
    """

    dataset: str
    train: Count
    pairs: Count
    width: Count
    depth: Count
    networks: Count
    seed: Index
    steps: Count
    step: Annotated[float, below(1, "1")] = 0.25
    sigma_b: NotNegative = 0.1
    points: Count = 17

    @property
    def initialisation(self) -> Initialisation:
        """The distribution of the weights before training."""
        return Initialisation(sigma_b=self.sigma_b)

    def network(self, inputs: int, outputs: int, seed: int) -> nn.Sequential:
        """One of the networks before training."""
        sizes = (inputs, *[self.width] * self.depth, outputs)
        return mlp(*sizes, seed=seed, initialisation=self.initialisation, dtype=torch.float64)


@dataclass(frozen=True)
class Task:
    """What a network is trained on and where it is looked at.

    Attributes:
        data: the data set.
        y: targets, one-hot less their mean, (N, classes).
        paths: pairs of training samples.
        rate: step size for a parameter of variance 1.
        predicted: what the theory says of the paths.
    """

    data: Dataset
    y: Tensor
    paths: Pairs
    rate: float
    predicted: theory.Trained


def task(config: Config) -> Task:
    """The data, the paths and the prediction; the width of the networks plays no part in them."""
    data, y, paths = _problem(config)
    x = data.x_train
    net = config.network(x.shape[1], data.classes, seed=0)
    largest = theory.tangent_kernel(net, x, config.initialisation)
    rate = 2 * config.step / float(torch.linalg.eigvalsh(largest)[-1])
    predicted = theory.after_training(
        net, x, y, paths, config.initialisation, time=rate * config.steps, points=config.points
    )
    return Task(data, y, paths, rate, predicted)


def _problem(config: "Config | Stable") -> tuple[Dataset, Tensor, Pairs]:
    """Data, targets and paths, see `Task`."""
    data = load(config.dataset, train=config.train)
    y = nn.functional.one_hot(data.y_train, data.classes).double() - 1 / data.classes
    return data, y, pairs(data, count=config.pairs, seed=0)


def run(config: Config) -> pd.DataFrame:
    """One row per network before and one after training.

    Columns: `phase` ("before" or "after"), `network`, and, per unit of t and pooled over pairs and
    outputs as root mean squares (the fluctuation as a mean): `mid_path_deflection` (t = 1/2),
    `chord_deviation` (likewise), `fluctuation`, `gap_deviation`, `quadratic_variation` (mean), the
    training `loss`; and after training `error` and `deflection_error`: how far outputs on the
    paths, and mid-path deflections, lie from what the theory makes of the same network before
    training, over the root mean square of the prediction.
    """
    known = task(config)
    x, predicted, points = known.data.x_train, known.predicted, config.points
    variance = torch.diagonal(predicted.covariance[:, :points, :points], dim1=1, dim2=2)
    size = predicted.mean.square().mean() + variance.mean()
    bent = predicted.mid_path_deflection.square().mean()
    rows = []
    for seed in range(config.seed, config.seed + config.networks):
        net = config.network(x.shape[1], known.data.classes, seed)
        before, at_samples = trace(net, known.paths), net(x).detach()
        rows.append(_row("before", seed, at_samples, before, known))
        gradient_descent(net, known, config)
        after = trace(net, known.paths)
        rows.append(_row("after", seed, net(x).detach(), after, known))
        along = [torch.cat(measures.along(one, predicted.t), dim=1) for one in (before, after)]
        off = along[1] - predicted.given(along[0], at_samples, known.y)
        rows[-1]["error"] = float((off[:, :points].square().mean() / size).sqrt())
        misbent = predicted.bend @ off
        rows[-1]["deflection_error"] = float((misbent.square().mean() / bent).sqrt())
    return pd.DataFrame(rows)


def curves(config: Config, points: int = 201) -> pd.DataFrame:
    """Each network along the path of the first pair, before and after training.

    Columns: `phase` as in `run`, `network`, `t` (evenly spaced), and `value`, the output of the
    class of the pair.
    """
    known = task(config)
    x0, x1, label = known.paths.x0[0], known.paths.x1[0], int(known.paths.y0[0])
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    tables = []
    for seed in range(config.seed, config.seed + config.networks):
        net = config.network(len(x0), known.data.classes, seed)
        for phase in ("before", "after"):
            if phase == "after":
                gradient_descent(net, known, config)
            value = net(x0 + t[:, None] * (x1 - x0)).detach()[:, label]
            tables.append(pd.DataFrame({"phase": phase, "network": seed, "t": t, "value": value}))
    return pd.concat(tables, ignore_index=True)


def _row(
    phase: str, seed: int, at_samples: Tensor, traced: Trace, known: Task
) -> dict[str, object]:
    values, slopes = measures.along(traced, torch.tensor([0.0, 0.5, 1.0]))
    start, middle, end = values.unbind(dim=1)
    loss = (at_samples - known.y).square().sum(dim=1).mean()
    return {
        "phase": phase,
        "network": seed,
        "mid_path_deflection": measures.pool(slopes[:, 1] - (slopes[:, 0] + slopes[:, 2]) / 2),
        "chord_deviation": measures.pool(middle - (start + end) / 2),
        "fluctuation": float(measures.fluctuation(traced).mean()),
        "gap_deviation": measures.pool(measures.gap_deviation(traced)),
        "quadratic_variation": float(measures.quadratic_variation(traced).mean()),
        "loss": float(loss),
    }


def gradient_descent(net: nn.Sequential, known: Task, config: Config) -> None:
    """Train `net` in place on half the sum of squares, with the step sizes of the limit."""
    how, groups = config.initialisation, []
    for layer in (m for m in net if isinstance(m, nn.Linear)):
        last = layer is net[-1]
        deviation = how.sigma_o if last else how.sigma_w
        weights, biases = deviation**2 / layer.in_features, 0.0 if last else how.sigma_b**2
        groups.append({"params": [layer.weight], "lr": known.rate * weights})
        groups.append({"params": [layer.bias], "lr": known.rate * biases})
    _descend(net, torch.optim.SGD(groups), known.data.x_train, known.y, config.steps)


def _descend(
    net: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int
) -> None:
    """Take steps on half the sum of squares of all samples; `Diverged` once it is not finite."""
    losses = descend(lambda: (net(x) - y).square().sum() / 2, optimiser, steps)
    for step, loss in enumerate(losses):
        if not loss.isfinite():
            raise Diverged(f"the training loss is {loss.item()} in step {step}; lower step.")


@dataclass(frozen=True)
class Stable(Checked):
    """One network with one hidden layer, trained by plain gradient descent until it stands still.

    Args:
        dataset: name of the data set.
        train: number of training samples.
        pairs: of training samples of the same class whose paths are looked at.
        width: hidden units.
        seed: of the weights.
        steps: of gradient descent.
        step: its size, over the largest one that is stable at the initial weights.

    Raises:
        InputError: a number out of its range.
    """

    dataset: str
    train: Count
    pairs: Count
    width: Count
    seed: Index
    steps: Count
    step: Positive


def stable(config: Stable) -> pd.DataFrame:
    """One row: curvature along paths after training, and its bound by the step size.

    Columns, after training: `loss`, infinite if training diverged, when all others are NaN;
    `sharpness`, the largest eigenvalue of the tangent kernel of all samples and outputs times half
    the step size (at a minimum of loss 0 where gradient descent is stable it is at most 1);
    `weighted_variation`, the sum of gaps that the bound of the chapter is about, for the pair and
    output that come closest to it; `kernel_bound`, the most that the tangent kernel of that pair
    allows; `step_bound`, the most that a stable minimum allows.
    """
    data, y, paths = _problem(config)
    x = data.x_train
    sizes = (x.shape[1], config.width, data.classes)
    net = mlp(*sizes, seed=config.seed, dtype=torch.float64)
    rate = 2 * config.step / _sharpest(net, x)
    try:
        _descend(net, torch.optim.SGD(net.parameters(), lr=rate), x, y, config.steps)
    except Diverged:
        names = ("sharpness", "weighted_variation", "kernel_bound", "step_bound")
        return pd.DataFrame([{"loss": math.inf} | dict.fromkeys(names, math.nan)])
    traced = trace(net, paths)
    ends = torch.stack([_own_kernel(net, x) for x in (paths.x0, paths.x1)])
    long = math.sqrt(x.shape[1] + 1)  # norm of a sample, with a 1 for the bias
    with torch.no_grad():
        on = net[0](paths.x1)[traced.path, traced.unit] > 0
    weight = torch.where(on, 1 - traced.t, traced.t)
    weighted = torch.zeros_like(traced.ends)
    weighted.index_add_(0, traced.path, traced.gaps.abs() * weight[:, None])
    bound = ends.sum(dim=0) / (2 * long)
    tightest = (weighted / bound).argmax()
    row = {
        "loss": float((net(x) - y).detach().square().sum(dim=1).mean()),
        "sharpness": rate / 2 * _sharpest(net, x),
        "weighted_variation": float(weighted.flatten()[tightest]),
        "kernel_bound": float(bound.flatten()[tightest]),
        "step_bound": 2 / (rate * long),
    }
    return pd.DataFrame([row])


def _sharpest(net: nn.Sequential, x: Tensor) -> float:
    """Largest eigenvalue of the tangent kernel among all samples and outputs."""
    first, last = _ends_of(net)
    active = (first(x) > 0).to(x)
    hidden = active * first(x)
    n, c = len(x), last.out_features
    inner = torch.einsum("oj,pj,ij,kj->iokp", last.weight, last.weight, active, active)
    inner = inner * (x @ x.T + 1)[:, None, :, None]
    inner = inner + torch.einsum("ik,op->iokp", hidden @ hidden.T + 1, torch.eye(c).to(x))
    return float(torch.linalg.eigvalsh(inner.reshape(n * c, n * c).detach())[-1])


def _own_kernel(net: nn.Sequential, x: Tensor) -> Tensor:
    """Tangent kernel of each output at each sample with itself, without output bias, (N, C)."""
    first, last = _ends_of(net)
    z: Tensor = first(x).detach()
    share = (z > 0).to(x) @ last.weight.detach().square().T * (x.square().sum(1) + 1)[:, None]
    return share + z.clamp(min=0).square().sum(dim=1, keepdim=True)


def _ends_of(net: nn.Sequential) -> tuple[nn.Linear, nn.Linear]:
    first, last = net[0], net[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return first, last
