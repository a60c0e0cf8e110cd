"""Sharpness of the training loss: curvature in the space of the weights."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from implreg.checks import check_count, check_number

_VECTORS = 10  # of Lanczos' method: the largest eigenvalue stands apart, few are enough


def sharpness(
    net: nn.Module, x: Tensor, y: Tensor, *, batch: int = 4096, tolerance: float = 1e-3
) -> float:
    r"""The largest eigenvalue of the Hessian of the mean softmax cross-entropy.

    .. math:: \lambda_{\max}\Bigl(\nabla_\theta^2 \frac1N \sum_i \ell(f_\theta(x_i), y_i)\Bigr).

    Gradient descent with step :math:`\eta` is linearly stable at a minimum only if it is at most
    :math:`2 / \eta`. Products with the Hessian are exact, :math:`H v = \nabla_\theta (v^\top
    \nabla_\theta L)`, in float64; the eigenvalue is found by Lanczos' method. The weights of the
    network stay as they are.

    Args:
        net: maps (N, ...) to logits (N, classes), in eval mode.
        x: training samples, (N, ...).
        y: labels, (N,) int64.
        batch: how many samples are taken at once, which bounds the memory.
        tolerance: relative, of the eigenvalue.

    Returns:
        The eigenvalue that is largest as a number, not in size.

    Raises:
        InputError: a batch below 1, or a tolerance that is not above 0.

    Source: Cohen et al. (2021) for its role in training; Pearlmutter (1994) for the products.

    >>> import torch
    >>> net = nn.Linear(1, 2, bias=False)
    >>> _ = nn.init.zeros_(net.weight)  # both classes have probability 1/2
    >>> x, y = torch.full((4, 1), 3.0), torch.tensor([0, 1, 0, 1])
    >>> round(sharpness(net, x, y), 6)  # x^2 times the largest eigenvalue of diag(p) - p p^T
    4.5
    """
    check_count("batch", batch)
    check_number("tolerance", tolerance, above=0)
    copy = deepcopy(net).double().eval()
    parameters = [p for p in copy.parameters() if p.requires_grad]
    device = parameters[0].device
    data = list(zip(x.to(device).double().split(batch), y.to(device).split(batch), strict=True))
    size = sum(parameter.numel() for parameter in parameters)

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        v, total = torch.from_numpy(vector.ravel()).to(device), torch.zeros(())
        for inputs, labels in data:
            loss = cross_entropy(copy(inputs), labels, reduction="sum") / len(y)
            gradient = torch.autograd.grad(loss, parameters, create_graph=True)
            along = torch.cat([part.flatten() for part in gradient]) @ v
            row = torch.autograd.grad(along, parameters, materialize_grads=True)
            total = total + torch.cat([part.flatten() for part in row])
        return total.cpu().numpy()

    hessian = LinearOperator((size, size), product, dtype=np.float64)
    if size < 3:  # too small for Lanczos
        return float(np.linalg.eigvalsh(hessian @ np.eye(size)).max())
    start = np.random.default_rng(0).standard_normal(size)
    if not (hessian @ start).any():  # a network of dead units; Lanczos finds no direction
        return 0.0
    found = eigsh(
        hessian, 1, which="LA", v0=start, ncv=min(size, _VECTORS), tol=tolerance,
        return_eigenvectors=False,
    )  # fmt: skip
    return float(found[0])
