"""A module as tracing calls it: in one type, without compilation, and left as it was."""

import contextlib
import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from implreg.checks import check_finite
from implreg.errors import InputError

Output = int | str | None
_COMPILED = "_orig_mod"  # where torch.compile keeps the module


class Network:
    """A module and what of it is traced.

    Args:
        net: a module in eval mode.
        dtype: of the arithmetic; numbers of other types are cast, those of the module stay.
        output: see `implreg.read`.

    Attributes:
        module: the module, without compilation or copies on several devices.
        tensors: its parameters and buffers by name, in `dtype`.
        running: what it runs with: these, and copies of the buffers.
        names: of the modules inside it.
        device: the one device of these, None if there are none.

    Raises:
        InputError: as `implreg.read`, before the module runs.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype, output: Output = None) -> None:
        if not isinstance(net, nn.Module):
            raise InputError(
                f"net must be a torch.nn.Module, got {type(net).__name__}; pass for example "
                f"implreg.mlp(64, 512, 10, seed=0)."
            )
        while isinstance(net, nn.DataParallel) or hasattr(net, _COMPILED):
            net = net.module if isinstance(net, nn.DataParallel) else getattr(net, _COMPILED)
        if isinstance(net, torch.jit.ScriptModule):
            raise InputError(
                "net must be an ordinary torch.nn.Module, got a TorchScript module, whose "
                "operations cannot be read; pass the module that was scripted."
            )
        if isinstance(output, bool) or not isinstance(output, int | str | None):
            raise InputError(
                f"output must be an index, a key, or the name of an inner module, got {output!r}; "
                f"pass for example output=0."
            )
        held = dict([*net.named_parameters(), *net.named_buffers()])
        self.module, self._output = net, output
        self.device = _device(list(held.values()))
        for name, tensor in held.items():
            if nn.parameter.is_lazy(tensor):
                raise InputError(
                    f"net.{name} must have values, but its lazy layer has not seen an input; run "
                    f"the network once."
                )
            if tensor.is_floating_point():
                check_finite(f"net.{name}", tensor.detach())
        self.tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in held.items()}
        self.names = {module: _plain(name) for name, module in net.named_modules()}
        torchs = {x for x in self.names if type(x).__module__.startswith("torch.")}
        self._own = [x for x in self.names if x not in torchs or x._forward_pre_hooks]
        self._buffers = [name for name, _ in net.named_buffers()]
        self._inner = next((x for x, name in self.names.items() if name and name == output), None)

    def __call__(self, x: Any) -> Tensor:
        """What is traced, for samples (N, *input).

        Raises:
            InputError: there is no such output, or it is not a tensor.
        """
        inside: list[Any] = []

        def returned(_: nn.Module, __: Any, made: Any) -> None:
            inside.append(made.clone() if isinstance(made, Tensor) else made)  # as it is now

        hooks = [x.register_forward_hook(returned) for x in (self._inner,) if x is not None]
        # What a forward pass writes into buffers, it writes into copies.
        self.running = self.tensors | {name: self.tensors[name].clone() for name in self._buffers}
        made: Any = None
        try:
            with _left_alone(self._own), _eagerly():
                made = functional_call(self.module, self.running, (x,))
        except Exception:
            if not inside:
                raise
        finally:
            for hook in hooks:
                hook.remove()
        if self._output is not None:
            made = self._chosen(made, inside)
        if isinstance(made, Tensor):
            return made
        if self._output is None:
            raise InputError(f"net must return one tensor, got {_several(made)}.")
        raise InputError(
            f"output must be one tensor, but {self._output!r} is of the type "
            f"{type(made).__name__}; wrap net in a module that returns one."
        )

    def _chosen(self, made: Any, inside: list[Any]) -> Any:
        """The output that is asked for: of what the network returns, or of what a module did."""
        output = self._output
        if isinstance(made, Mapping) and output in made:
            return made[output]
        if inside:
            return inside[0]
        # A command line gives numbers as words.
        index = int(str(output)) if str(output).lstrip("-").isdecimal() else sys.maxsize
        if isinstance(made, tuple | list) and -len(made) <= index < len(made):
            return made[index]
        raise InputError(
            f"output must be an output of net or the name of a module in it that runs, got "
            f"{output!r}, but net returns {_several(made)}."
        )


def _several(made: Any) -> str:
    """What a network returns, and how to name a part of it."""
    if isinstance(made, tuple | list) and made:
        return f"{len(made)} outputs; choose one by output=0 to output={len(made) - 1}"
    if isinstance(made, Mapping) and made:
        keys = [f"output={key!r}" for key in list(made)[:3]]
        return f"the outputs of a {type(made).__name__}; choose one by {' or '.join(keys)}"
    if isinstance(made, Tensor):
        return "one tensor; leave output out, or name a module as print(net) shows them"
    return f"{type(made).__name__}; wrap it in a module that returns a tensor"


def _plain(name: str) -> str:
    """The name of a module, parameter or buffer as it is without compilation."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


@contextlib.contextmanager
def _left_alone(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back what a forward pass changes in the attributes of modules."""
    before = []
    for held in map(vars, modules):
        filled = [(x, copy.copy(x)) for x in held.values() if isinstance(x, list | dict | set)]
        before.append((held, dict(held), filled))
    try:
        yield
    finally:
        for held, attributes, filled in before:
            held.clear()
            held.update(attributes)
            for container, content in filled:
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(content)


def _eagerly() -> Any:
    """Without compilation, where there may be any."""
    if "torch._dynamo" not in sys.modules:  # a second to import, and nothing can be compiled
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


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
