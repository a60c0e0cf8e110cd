"""Tensors that tell a recorder what is done with them."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves, tree_map_only

from implreg.errors import InputError
from implreg.tracing.program import Affine, Hinges, Moves, Operation, Shape, Windows

BATCH = 2  # samples that the recorded run holds, so that no operation can take them for one
BATCH_STATISTICS = (
    "normalises by the statistics of the batch, so that no sample has a path of its own; call "
    "net.eval() (and keep track_running_stats=True)."
)


class Refused(Exception):
    """Why an operation cannot be traced; `Recorder` adds where it stands."""


class Recorded(Tensor):
    """A tensor that tells its recorder what is done with it.

    `value` is the number of the program's value that it holds.
    """

    value: int
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
        recorder = next(x.recorder for x in tree_leaves((args, kwargs)) if isinstance(x, Recorded))
        return recorder.call(func, args, kwargs)


def plain(tree: Any) -> Any:
    """The same arguments with ordinary tensors in place of recorded ones."""
    with torch._C.DisableTorchFunctionSubclass():
        return tree_map_only(Recorded, lambda x: x.as_subclass(Tensor), tree)


class Recorder:
    """Collects operations while a module runs.

    Args:
        perform: runs a function on recorded tensors and appends what it does, or raises `Refused`.
    """

    def __init__(self, perform: "Perform") -> None:
        self.operations: list[Operation] = []
        self._perform = perform
        self.running: list[tuple[str, nn.Module]] = []
        self._uses: Counter[str] = Counter()
        self._held: set[int] = set()

    def wrap(self, data: Tensor, index: int) -> Recorded:
        """An ordinary tensor as value `index` of the program."""
        made: Recorded = plain(data).as_subclass(Recorded)
        made.value, made.recorder = index, self
        return made

    def add(self, operation: Operation, data: Tensor) -> Recorded:
        """Append an operation; `data` is its result for the recorded batch."""
        self.operations.append(operation)
        return self.wrap(data, len(self.operations))

    def affine(
        self,
        text: str,
        inputs: Sequence[Recorded],
        linear: Callable[..., Tensor],
        *,
        bias: Tensor | None = None,
        columns: Callable[[Tensor], Tensor] | None = None,
        moves: Moves | None = None,
    ) -> Recorded:
        """Append an affine operation."""
        data = linear(*plain(inputs))
        data = data if bias is None else data + bias
        taken = tuple(x.value for x in inputs)
        made = Affine(self.name(text), text, taken, _one(data), linear, bias, columns, moves)
        return self.add(made, data)

    def hinges(
        self,
        text: str,
        x: Recorded,
        *,
        kinks: Sequence[tuple[float, float | Tensor]],
        slope: float | Tensor = 0.0,
        offset: float = 0.0,
    ) -> Recorded:
        """Append a piecewise linear function of every entry."""
        shape = tuple(x.shape[1:])
        made = Hinges(self.name(text), text, (x.value,), shape, offset, slope, tuple(kinks))
        return self.add(made, made.at(plain(x)))

    def windows(self, text: str, x: Recorded, data: Tensor, index: Tensor) -> Recorded:
        """Append a maximum over windows."""
        return self.add(Windows(self.name(text), text, (x.value,), _one(data), index), data)

    def name(self, text: str) -> str:
        """A name of its own for the operation: the module's, or the function's inside it."""
        path, module = self.running[-1]
        own = [name for name, _ in module.named_children() if name != "parametrizations"]
        leaf = type(module).__module__.startswith("torch.nn.") and not own
        function = text.split("(")[0].strip()
        name = path if leaf and path else f"{path}.{function}".lstrip(".")
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name}:{self._uses[name]}"

    def where(self) -> str:
        """The module that runs now, in words."""
        path, module = self.running[-1]
        return f"its layer {path!r} ({type(module).__name__})" if path else type(module).__name__

    def holds(self, x: Any) -> bool:
        """Whether x is a parameter or buffer of the module that runs."""
        return id(x) in self._held

    def call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run a function of recorded tensors and note what it does."""
        try:
            return self._perform(self, func, args, kwargs)
        except Refused as refused:
            raise InputError(
                f"net must be piecewise linear, but {self.where()} {refused}"
            ) from None

    @contextlib.contextmanager
    def listening(self, net: nn.Module) -> Iterator[None]:
        """Keep track of which module of `net` is running."""
        names = {module: name for name, module in net.named_modules()}
        self._held = {id(x) for x in (*net.parameters(), *net.buffers())}

        def enter(module: nn.Module, _: Any) -> None:
            self.running.append((names.get(module, ""), module))
            why = _why_not(module)
            if why:
                raise InputError(f"net must be piecewise linear, but {self.where()} {why}")

        def leave(module: nn.Module, _: Any, __: Any) -> None:
            self.running.pop()

        handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _why_not(module: nn.Module) -> str:
    """Why a module cannot be traced, for those whose functions do not tell or come too late."""
    if isinstance(module, torch.jit.ScriptModule):
        return "is TorchScript, whose operations cannot be read; use the module that was scripted."
    if isinstance(module, nn.MultiheadAttention):
        return "multiplies two branches (attention), which is not piecewise linear; replace it."
    if isinstance(module, nn.RNNBase):
        return "is recurrent with smooth gates, which is not piecewise linear; replace it."
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
        return BATCH_STATISTICS
    return ""


def _one(data: Tensor) -> Shape:
    """Shape for one sample of a result for the recorded batch."""
    if data.ndim == 0 or len(data) != BATCH:
        raise Refused(
            "mixes the samples of a batch (the first axis must stay theirs); keep it apart."
        )
    return tuple(data.shape[1:])


Perform = Callable[[Recorder, Callable[..., Any], Sequence[Any], dict[str, Any]], Any]
