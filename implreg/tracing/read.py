"""Reads the operations of a module by running it once on recorded tensors."""

import copy

import torch
from torch import Tensor, nn

from implreg.checks import check_finite
from implreg.errors import InputError
from implreg.tracing.operations import perform
from implreg.tracing.program import Program, arranged
from implreg.tracing.record import BATCH, Recorded, Recorder


def read(net: nn.Module, sample: Tensor, *, dtype: torch.dtype = torch.float64) -> Program:
    """Read a module's operations into a `Program` that can be printed and traced.

    The module runs once, on two copies of `sample`; what it calls on tensors is recorded under the
    qualified name of the module that calls it. Nothing of the module is changed.

    Args:
        net: a module in eval mode. Its layers may be what a continuous piecewise linear network is
            made of: linear, convolution, batch norm; ReLU, ReLU6, LeakyReLU, PReLU, Hardtanh, abs,
            clamp, maximum and minimum of two branches; max pooling; products with constants;
            dropout in eval mode; and whatever else is linear in what the network computes, which is
            found out by trying. Writing in place counts, into views too. What the output does not
            depend on may be anything but a decision, such as ``if h.mean() > 0``.
        sample: one input, of the shape (without batch axis) that the network takes.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`.

    Returns:
        The operations that the output depends on, in an order in which they can run; `print` shows
        one line for each.

    Raises:
        InputError: the module is not a `torch.nn.Module`, has parameters that are not finite or on
            several devices, cannot take the sample, or does something that is not in the list: the
            message names the layer, its type and the reason.

    >>> import implreg as ir
    >>> read(nn.Sequential(ir.mlp(4, 8, 2, seed=0), nn.Tanh()), torch.zeros(4))
    Traceback (most recent call last):
    implreg.errors.InputError: net must be piecewise linear, but its layer '1' (Tanh) ...
    """
    net, device = prepared(net, dtype)
    return record(net, sample.to(dtype=dtype, device=device or sample.device))


def prepared(net: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, torch.device | None]:
    """The module itself if all its numbers have `dtype`, else a copy that does; both checked.

    With it the one device of its numbers, None if it has none.
    """
    if not isinstance(net, nn.Module):
        raise InputError(
            f"net must be a torch.nn.Module, got {type(net).__name__}; pass for example "
            f"implreg.mlp(64, 512, 10, seed=0)."
        )
    if isinstance(net, torch.jit.ScriptModule):
        raise InputError(
            "net must be an ordinary torch.nn.Module, got a TorchScript module, whose operations "
            "cannot be read; pass the module that was scripted."
        )
    held = [*net.named_parameters(), *net.named_buffers()]
    device = _device([tensor for _, tensor in held])
    for name, tensor in held:
        if nn.parameter.is_lazy(tensor):
            raise InputError(
                f"net.{name} must have values, but its lazy layer has not seen an input; run the "
                f"network once."
            )
        if tensor.is_floating_point():
            check_finite(f"net.{name}", tensor.detach())
    floating = {t.dtype for _, t in held if t.is_floating_point()}
    if floating <= {dtype}:
        return net, device
    try:
        return copy.deepcopy(net).to(dtype), device
    except RuntimeError as error:
        raise InputError(
            f"net must be a module that can be copied, as its numbers are not {dtype}, but: "
            f"{first_line(error)}; pass net.to({dtype})."
        ) from error


def _device(held: list[Tensor]) -> torch.device | None:
    devices = {str(tensor.device): tensor.device for tensor in held}
    if len(devices) > 1:
        raise InputError(
            f"net must be on one device, but its parameters are on {', '.join(sorted(devices))}; "
            f"move it with net.to(...)."
        )
    device = next(iter(devices.values()), None)
    if device is not None and device.type == "meta":
        raise InputError(
            "net must have values, but its parameters are on the device meta, which holds none; "
            "load them first."
        )
    return device


def record(net: nn.Module, sample: Tensor) -> Program:
    """Run a prepared module on a sample of its dtype and device, and note its operations."""
    recorder = Recorder(perform)
    inputs = recorder.wrap(sample.detach().expand(BATCH, *sample.shape).clone(), 0)
    with torch.no_grad(), recorder.listening(net):
        try:
            result = net(inputs)
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
        what = type(result).__name__
        if isinstance(result, Tensor):
            raise InputError(
                "net must return what it computes from its input, but its output does not depend "
                "on it by operations that can be traced; look for tensor.data, numpy or a cache."
            )
        raise InputError(
            f"net must return one tensor, got {what}; wrap it in a module that returns one."
        )
    operations, output = arranged(recorder.operations, output)
    return Program(operations, tuple(sample.shape), output, sample.dtype, sample.device)


def first_line(error: BaseException) -> str:
    """What an error says, up to its first line break."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
