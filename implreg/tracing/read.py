"""Reads the operations of a module by running it once on recorded tensors."""

import torch
from torch import Tensor, nn

from implreg.checks import check_array
from implreg.errors import InputError
from implreg.tracing.network import Network, Output
from implreg.tracing.operations import perform
from implreg.tracing.paths import Array
from implreg.tracing.program import Program, arranged
from implreg.tracing.record import BATCH, Recorded, Recorder


def read(
    net: nn.Module, sample: Array, *, dtype: torch.dtype = torch.float64, output: Output = None
) -> Program:
    """Read a module's operations into a `Program` that can be printed and traced.

    The module runs once, on two copies of `sample`; what it calls on tensors is recorded under the
    qualified name of the module that calls it. Nothing of the module is changed.

    Args:
        net: a module in eval mode. Its layers may be what a continuous piecewise linear network is
            made of: linear, convolution, batch norm; ReLU, ReLU6, LeakyReLU, PReLU, Hardtanh, abs,
            clamp, maximum and minimum of two branches; max pooling, maxima over axes, sorted
            entries; choices by a comparison whose branches meet, such as ``where(x > 0, x, 0)``;
            recurrent layers with ReLU; products with constants; dropout in eval mode; and whatever
            else is linear in what the network computes, which is found out by trying. Writing in
            place counts, into views too. What the output does not depend on may be anything but a
            decision, such as ``if h.mean() > 0``; checks that raise are taken as passed.
        sample: one input, a tensor or a NumPy array of the shape (without batch axis) that the
            network takes.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`.
        output: which output is meant: of a network that returns several tensors, the index of one
            in a tuple or its key in a dictionary; else the qualified name of a module inside `net`,
            for what it returns when it first runs.

    Returns:
        The operations that the output depends on, in an order in which they can run; `print` shows
        one line for each.

    Raises:
        InputError: the module is not a `torch.nn.Module`, has parameters that are not finite or on
            several devices, cannot take the sample, or does something that is not in the list: the
            message names the layer, its type and the reason; there is no such output.

    >>> import implreg as ir
    >>> read(nn.Sequential(ir.mlp(4, 8, 2, seed=0), nn.Tanh()), torch.zeros(4))
    Traceback (most recent call last):
    implreg.errors.InputError: net must be piecewise linear, but its layer '1' (Tanh) ...
    """
    network, sample = Network(net, dtype, output), check_array("sample", sample)
    return record(network, sample.to(dtype=dtype, device=network.device or sample.device))


def record(network: Network, sample: Tensor, *, differentiable: bool = False) -> Program:
    """Run a network on a sample of its dtype and device, and note its operations.

    Args:
        network: what to run.
        sample: one input.
        differentiable: keep the constants of the program differentiable in those of the network.
    """
    recorder = Recorder(perform, tuple(sample.shape))
    inputs = recorder.wrap(sample.detach().expand(BATCH, *sample.shape).clone(), 0)
    with torch.set_grad_enabled(differentiable), recorder.listening(network):
        try:
            result = network(inputs)
            # Afterwards a constant that was written to is as it was.
            output = result.value if isinstance(result, Recorded) else None
        except InputError:
            raise
        except Exception as error:
            where = f", in {recorder.where()}" if recorder.running else ""
            raise InputError(
                f"net must take the samples, but fails on one of shape {tuple(sample.shape)} with "
                f"{type(error).__name__}: {first_line(error)}{where}; reshape them or mend the "
                f"network."
            ) from error
    if output is None:
        raise InputError(
            "net must return what it computes from its input, but its output does not depend on it "
            "by operations that can be traced; look for tensor.data, numpy or a cache."
        )
    operations, output = arranged(recorder.operations, output)
    if not bool(result.isfinite().all()):  # ordinary again
        raise InputError(
            "net must return finite numbers, but some that it returns for the first sample are "
            "infinite or undefined; mend it."
        )
    return Program(operations, tuple(sample.shape), output, sample.dtype, sample.device)


def first_line(error: BaseException) -> str:
    """What an error says, up to its first line break."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
