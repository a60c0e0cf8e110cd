"""Sharpness of the training loss: curvature in the space of the weights."""

from copy import deepcopy

import numpy as np
from curvlinops import HessianLinearOperator
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from implreg.checks import check_count, check_number

_VECTORS = 10  # of Lanczos' method: the largest eigenvalue stands apart, few are enough


def sharpness(
    net: nn.Module, x: Tensor, y: Tensor, *, batch: int = 4096, tolerance: float = 1e-3
) -> float:
    r"""The largest eigenvalue of the Hessian of the mean softmax cross-entropy.

    .. math:: \lambda_{\max}\Bigl(\nabla_\theta^2 \frac1N \sum_i \ell(f_\theta(x_i), y_i)\Bigr).

    Gradient descent with step :math:`\eta` is linearly stable at a minimum only if it is at most
    :math:`2 / \eta`. Products with the Hessian are exact (Pearlmutter 1994), in float64; the
    eigenvalue is found by Lanczos' method. The weights of the network stay as they are.

    Args:
        net: maps (N, ...) to logits (N, classes), in eval mode.
        x: training samples, (N, ...).
        y: labels, (N,) int64.
        batch: how many samples are taken at once, which bounds the memory.
        tolerance: relative, of the eigenvalue.

    Returns:
        The eigenvalue that is largest as a number, not in size.

    Source: Cohen et al. (2021) for its role in training; Dangel et al. (2025) for the products.

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
    hessian = HessianLinearOperator(
        copy, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False
    ).to_scipy()
    size = hessian.shape[0]
    if size < 3:  # too small for Lanczos
        return float(np.linalg.eigvalsh(hessian @ np.eye(size)).max())
    start = np.random.default_rng(0).standard_normal(size)
    found = eigsh(
        hessian, 1, which="LA", v0=start, ncv=min(size, _VECTORS), tol=tolerance,
        return_eigenvectors=False,
    )  # fmt: skip
    return float(found[0])
