"""Multilayer perceptrons of one shape as a batch of matrices, so that one product serves all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_relu_backward = torch.ops.aten.threshold_backward


def shape_of(net: nn.Module) -> tuple[object, ...] | None:
    """What networks must share to be stacked; None for one that cannot be.

    Those that can are `nn.Sequential` of dense layers with biases and a ReLU between any two, all
    of whose parameters are trained and of one type, and no two layers are the same.
    """
    if type(net) is not nn.Sequential or len(net) % 2 == 0:
        return None
    dense, between = list(net)[::2], list(net)[1::2]
    plain = all(type(m) is nn.Linear and m.bias is not None for m in dense)
    if not plain or any(type(m) is not nn.ReLU for m in between):
        return None
    layers = [m for m in dense if isinstance(m, nn.Linear)]
    weight = layers[0].weight
    parameters = list(net.parameters())  # each once
    alike = all(p.requires_grad and p.dtype == weight.dtype for p in parameters)
    if len(parameters) < 2 * len(layers) or not alike:
        return None
    return (
        *(m.in_features for m in layers),
        layers[-1].out_features,
        weight.dtype,
        weight.device,
    )


class Stack:
    r"""S networks of one shape, whose parameters from here on are parts of common tensors.

    Activations are computed as in the networks. The gradients of the cross-entropy are written out:
    with the softmax p, the label's unit vector e and the rate of each network,

    .. math::
        G_L = \mathrm{rate} \, (p - e) / B, \qquad
        G_{l-1} = W_l^T G_l \odot 1[a_{l-1} > 0], \qquad
        W_l \leftarrow W_l - G_l a_{l-1}^T .

    Args:
        nets: of one `shape_of`.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        layers = [[m for m in net.modules() if isinstance(m, nn.Linear)] for net in nets]
        self.weights: list[Tensor] = []  # (S, out, in) each
        self.biases: list[Tensor] = []  # (S, out) each
        for same in zip(*layers, strict=True):
            self.weights.append(torch.stack([m.weight.detach() for m in same]))
            self.biases.append(torch.stack([m.bias.detach() for m in same]))
            for layer, weight, bias in zip(same, self.weights[-1], self.biases[-1], strict=True):
                layer.weight.data, layer.bias.data = weight, bias

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step of all networks, or none if the loss of one is not finite.

        Args:
            x: a batch for each network, (S, B, inputs).
            y: its labels, (S, B).
            rate: learning rate of each network, (S,).

        Returns:
            Mean loss and number of errors of each network before the step, (S,) each.
        """
        last = len(self.weights) - 1
        taken = [x]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            made = torch.baddbmm(bias[:, None], taken[-1], weight.transpose(1, 2))
            taken.append(made.relu_())
        # Samples behind classes: the softmax then runs along the memory, many times faster.
        logits = torch.baddbmm(
            self.biases[last][..., None], self.weights[last], taken[-1].transpose(1, 2)
        )
        log_p = torch.log_softmax(logits, dim=1)
        label = y[:, None]
        loss = -log_p.gather(1, label).mean(dim=(1, 2))
        wrong = (log_p.argmax(dim=1) != y).sum(dim=1)
        if not bool(loss.isfinite().all()):
            return loss, wrong
        grad = log_p.exp_()
        grad.scatter_add_(1, label, grad.new_tensor(-1.0).expand(label.shape))
        grad = grad.mul_(rate[:, None, None] / y.shape[1]).transpose(1, 2)  # (S, B, classes)
        for i in range(last, -1, -1):
            below = torch.bmm(grad, self.weights[i]) if i else grad
            self.weights[i].baddbmm_(grad.transpose(1, 2), taken[i], alpha=-1)
            self.biases[i].sub_(grad.sum(dim=1))
            if i:
                grad = _relu_backward(below, taken[i], 0)
        return loss, wrong
