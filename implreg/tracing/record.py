"""Reads the operations of a module by running it once on recorded tensors."""

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from implreg.checks import InputError, check_finite
from implreg.tracing.program import Affine, Hinges, Operation, Program, Shape, Windows

BATCH = 2  # samples that the recorded run holds, so that no operation can take them for one


class Refused(Exception):
    """Why an operation cannot be traced; `Recorder` adds where it stands."""


class Recorded(Tensor):
    """A tensor that tells its recorder what is done with it.

    `index` is the value of the program that it holds.
    """

    index: int
    recorder: "Recorder"

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        recorder = next(x.recorder for x in _tensors((args, kwargs)) if isinstance(x, Recorded))
        return recorder.call(func, args, kwargs)


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for branch in tree.values():
            yield from _tensors(branch)
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from _tensors(branch)


def plain(tree: Any) -> Any:
    """The same arguments with ordinary tensors in place of recorded ones."""
    if isinstance(tree, Recorded):
        with torch._C.DisableTorchFunctionSubclass():
            return tree.as_subclass(Tensor)
    if isinstance(tree, dict):
        return {key: plain(branch) for key, branch in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(plain(branch) for branch in tree)
    return tree


class Recorder:
    """Collects operations while a module runs."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._stack: list[tuple[str, nn.Module]] = []
        self._uses: Counter[str] = Counter()

    def wrap(self, data: Tensor, index: int) -> Recorded:
        """An ordinary tensor as value `index` of the program."""
        made: Recorded = plain(data).as_subclass(Recorded)
        made.index, made.recorder = index, self
        return made

    def add(self, operation: Operation, data: Tensor) -> Recorded:
        """Append an operation; `data` is its result for the recorded batch."""
        self.operations.append(operation)
        return self.wrap(data, len(self.operations))

    def affine(
        self,
        text: str,
        inputs: Sequence[Recorded],
        data: Tensor,
        linear: Callable[..., Tensor],
        *,
        bias: Tensor | None = None,
        columns: Callable[[Tensor], Tensor] | None = None,
    ) -> Recorded:
        """Append an affine operation."""
        data = plain(data)
        made = Affine(
            self.name(text), text, tuple(x.index for x in inputs), _one(data), linear, bias, columns
        )
        return self.add(made, data)

    def hinges(
        self,
        text: str,
        x: Recorded,
        data: Tensor,
        *,
        kinks: Sequence[tuple[float, float | Tensor]],
        slope: float | Tensor = 0.0,
        offset: float = 0.0,
    ) -> Recorded:
        """Append a piecewise linear function of every entry."""
        data = plain(data)
        made = Hinges(self.name(text), text, (x.index,), _one(data), offset, slope, tuple(kinks))
        return self.add(made, data)

    def windows(self, text: str, x: Recorded, data: Tensor, index: Tensor) -> Recorded:
        """Append a maximum over windows."""
        data = plain(data)
        return self.add(Windows(self.name(text), text, (x.index,), _one(data), index), data)

    def name(self, text: str) -> str:
        """A name of its own for the operation: the module's, or the function's inside it."""
        path, module = self._stack[-1]
        leaf = type(module).__module__.startswith("torch.nn.") and not any(module.children())
        name = path if leaf and path else f"{path}.{text}".lstrip(".")
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name}:{self._uses[name]}"

    def where(self) -> str:
        """The module that runs now, in words."""
        path, module = self._stack[-1]
        return f"its layer {path!r} ({type(module).__name__})" if path else type(module).__name__

    def call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run a function of recorded tensors and note what it does."""
        from implreg.tracing.operations import perform

        try:
            return perform(self, func, args, kwargs)
        except Refused as refused:
            raise InputError(
                f"net must be piecewise linear, but {self.where()} {refused}"
            ) from None

    @contextlib.contextmanager
    def listening(self, net: nn.Module) -> Iterator[None]:
        """Keep track of which module of `net` is running."""
        names = {module: name for name, module in net.named_modules()}

        def enter(module: nn.Module, _: Any) -> None:
            self._stack.append((names.get(module, ""), module))

        def leave(module: nn.Module, _: Any, __: Any) -> None:
            self._stack.pop()

        handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _one(data: Tensor) -> Shape:
    """Shape for one sample of a result for the recorded batch."""
    if data.ndim == 0 or len(data) != BATCH:
        raise Refused(
            "mixes the samples of a batch (the first axis must stay theirs); keep it apart."
        )
    return tuple(data.shape[1:])


def read(net: nn.Module, sample: Tensor, *, dtype: torch.dtype = torch.float64) -> Program:
    """Read a module's operations into a `Program` that can be printed and traced.

    The module runs once, on two copies of `sample`; what it calls on tensors is recorded under the
    qualified name of the module that calls it. Nothing of the module is changed.

    Args:
        net: a module in eval mode. Its layers may be what a continuous piecewise linear network is
            made of: linear, convolution (transposed too), batch norm; ReLU, ReLU6, LeakyReLU,
            PReLU, Hardtanh, abs, clamp, maximum and minimum of two branches; max, average and
            adaptive pooling; reshaping, permutations, indexing by constants, padding, upsampling;
            sums, differences, concatenations, means; products with constants; dropout in eval mode.
        sample: one input, of the shape (without batch axis) that the network takes.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`.

    Raises:
        InputError: the module is not a `torch.nn.Module`, has parameters that are not finite or on
            several devices, cannot take the sample, or does something that is not in the list: the
            message names the layer, its type and the reason.
    """
    net = prepared(net, dtype)
    return record(net, sample.to(dtype=dtype, device=device_of(net, sample.device)))


def prepared(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module itself if all its numbers have `dtype`, else a copy that does; both checked."""
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
    for name, tensor in held:
        if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
            raise InputError(
                f"net.{name} must have values, but its lazy layer has not seen an input; run the "
                f"network once."
            )
        if tensor.is_floating_point():
            check_finite(f"net.{name}", tensor.detach())
    floating = {t.dtype for _, t in held if t.is_floating_point()}
    if floating <= {dtype}:
        return net
    try:
        return copy.deepcopy(net).to(dtype)
    except RuntimeError as error:
        raise InputError(
            f"net must be a module that can be copied, as its numbers are not {dtype}, but: "
            f"{first_line(error)}; pass net.to({dtype})."
        ) from error


def device_of(net: nn.Module, default: torch.device) -> torch.device:
    """The one device of a module's numbers."""
    held = [*net.named_parameters(), *net.named_buffers()]
    devices = {str(t.device): t.device for _, t in held}
    if len(devices) > 1:
        raise InputError(
            f"net must be on one device, but its parameters are on {', '.join(sorted(devices))}; "
            f"move it with net.to(...)."
        )
    device = next(iter(devices.values()), default)
    if device.type == "meta":
        raise InputError(
            "net must have values, but its parameters are on the device meta, which holds none; "
            "load them first."
        )
    return device


def record(net: nn.Module, sample: Tensor) -> Program:
    """Run a prepared module on a sample of its dtype and device, and note its operations."""
    recorder = Recorder()
    inputs = recorder.wrap(sample.detach().expand(BATCH, *sample.shape).clone(), 0)
    with torch.no_grad(), recorder.listening(net):
        try:
            result = net(inputs)
        except InputError:
            raise
        except Exception as error:
            where = f", in {recorder.where()}" if recorder._stack else ""
            raise InputError(
                f"paths must hold samples that net takes, but it fails on samples of shape "
                f"{tuple(sample.shape)} with {type(error).__name__}: {first_line(error)}{where}; "
                f"reshape them or mend the network."
            ) from error
    if not isinstance(result, Recorded):
        what = type(result).__name__
        if isinstance(result, Tensor):
            raise InputError(
                "net must return what it computes from its input, but its output does not depend "
                "on it by operations that can be traced; look for tensor.data, numpy or a cache."
            )
        raise InputError(
            f"net must return one tensor, got {what}; wrap it in a module that returns one."
        )
    return Program(
        tuple(recorder.operations),
        tuple(sample.shape),
        result.index,
        sample.dtype,
        sample.device,
    )


def first_line(error: BaseException) -> str:
    """What an error says, up to its first line break."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
