"""Files of users: networks and paths are read without running anything that a file contains."""

import importlib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from implreg.checks import check_array
from implreg.errors import InputError, explain_error
from implreg.networks import PreActivationBlock
from implreg.onnx import load_onnx

# What a file may hold besides tensors: layers that run no code but torch's. Some are not piecewise
# linear; they are read all the same, so that `trace` can name the layer that it refuses.
_NAMES = """
    Sequential Identity Flatten Unflatten Linear Bilinear
    ReLU LeakyReLU PReLU RReLU ReLU6 Hardtanh Threshold Hardshrink Softshrink
    Dropout AlphaDropout FeatureAlphaDropout
    Upsample UpsamplingNearest2d UpsamplingBilinear2d
    PixelShuffle PixelUnshuffle ChannelShuffle Fold Unfold
    Sigmoid LogSigmoid Tanh Hardsigmoid Hardswish GELU SiLU Mish ELU CELU SELU GLU Softplus Softsign
    Tanhshrink Softmax Softmax2d LogSoftmax Softmin
    LayerNorm GroupNorm RMSNorm LocalResponseNorm
"""
_NAMES_BY_AXES = """
    Conv ConvTranspose BatchNorm InstanceNorm Dropout
    AvgPool MaxPool AdaptiveAvgPool AdaptiveMaxPool
    ZeroPad ConstantPad ReflectionPad ReplicationPad CircularPad
"""  # with 1d, 2d or 3d behind
_BY_AXES = [f"{name}{axes}d" for name in _NAMES_BY_AXES.split() for axes in (1, 2, 3)]
LAYERS = (*(getattr(nn, name) for name in [*_NAMES.split(), *_BY_AXES]), PreActivationBlock)

_PATHS = ("x0", "x1", "points")
_STATES = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
# What torch and its kin put around a module, each as a part of the names below it.
_WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod|_(?:fsdp|checkpoint)_wrapped_module)\.")
# Entries of archives that hold code.
_PROGRAMS = {b"/constants.pkl": "TorchScript", b"/archive_format": "a program of torch.export"}
_FEW = 3  # names in a sentence
_WORD = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"

File = str | os.PathLike[str]


def read_network(file: File, network: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Read a network, without running anything that the file contains.

    Args:
        file: `.pt`, `.pth` or `.ckpt` from `torch.save`, or `.safetensors`. It holds a state dict,
            itself or under the first of the keys "state_dict", "model_state_dict", "model", "net",
            "network", "params" and "weights" that has one; or, from `torch.save` alone, a whole
            network of torch.nn's own layers and of implreg's. Names may have parts that wrappers
            put in, such as DataParallel's `module.` and torch.compile's `_orig_mod.`, and all may
            begin with the name of what held the network, such as Lightning's `model.`, where they
            are the network's without. Or `.onnx`, always a whole network, with the packages of
            ``pip install implreg[onnx]``.
        network: builds the network that a state dict belongs to; called without arguments. Its
            parameters and buffers are replaced by those of the file, in the dtype of the file.

    Returns:
        The network on the CPU, in eval mode. NaN and infinite parameters are left to `trace`.

    Raises:
        InputError: a file that cannot be read, is damaged or asks for anything but tensors and such
            layers, as TorchScript does; ONNX without the packages that read it, or with operations
            that they do not know; a state dict without `network`, or a whole network with it; a
            `network` that fails, returns no module or does not fit the names and shapes in the
            file.

    >>> import tempfile
    >>> import implreg as ir
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "net.pt"
    ...     torch.save(ir.mlp(3, 8, 2, seed=0).state_dict(), file)
    ...     net = read_network(file, lambda: ir.mlp(3, 8, 2, seed=1))
    >>> net.training, bool((net[0].weight == ir.mlp(3, 8, 2, seed=0)[0].weight).all())
    (False, True)
    """
    path = Path(file)
    held = _loaded(path, _NETWORKS)
    if isinstance(held, Mapping):
        nested = map(held.get, _STATES)
        held = next((x for x in nested if isinstance(x, nn.Module) or _is_state(x)), held)
    if isinstance(held, nn.Module):
        try:
            held.eval()
        except Exception as error:  # its attributes are what the file says
            raise _damaged(path, "torch.save") from error
        if network is not None:
            raise InputError(
                f"network must be left out where the file holds a whole network, as {path} does; "
                f"leave it out or save the network's state_dict() instead."
            )
        return held
    if not _is_state(held):
        raise InputError(
            f"file must hold a network or its state dict, got {path}, which holds "
            f"{_kind(held)}; save net.state_dict()."
        )
    if network is None:
        raise InputError(
            f"network must say how to build the network, as {path} holds its parameters alone; "
            f"pass a callable that returns it (on the command line: --network module:callable)."
        )
    return _filled(network, held, path)


def read_paths(file: File) -> tuple[Tensor, Tensor] | Tensor:
    """Read straight paths or a polyline, without running anything that the file contains.

    Args:
        file: `.npz` from `numpy.savez`, `.safetensors`, or `.pt` or `.pth` from `torch.save` of a
            dict. It holds the starts and ends of P straight paths as `x0` and `x1`, both of shape
            (P, ...), or the V vertices of a polyline as `points`, (V, ...); further names are left
            alone.

    Returns:
        `(x0, x1)` or `points`, float64 on the CPU. NaN and infinite entries are left to `trace`.

    Raises:
        InputError: a file that cannot be read, is damaged or asks for anything but numbers; names
            or shapes other than these.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "paths.npz"
    ...     np.savez(file, x0=np.zeros((5, 3)), x1=np.ones((5, 3)))
    ...     x0, x1 = read_paths(file)
    >>> x0.shape, x1.dtype
    (torch.Size([5, 3]), torch.float64)
    """
    path = Path(file)
    held = _loaded(path, _LINES)
    found = [name for name in _PATHS if isinstance(held, Mapping) and name in held]
    if not isinstance(held, Mapping) or found not in (["x0", "x1"], ["points"]):
        raise InputError(
            f"file must hold either x0 and x1 (starts and ends of straight paths) or points (a "
            f"polyline), got {path}, which holds {_kind(held)}; save it under these names."
        )
    tensors = [check_array(n, held[n], f" in {path}").detach().double() for n in found]
    shapes = " and ".join(f"{n} {tuple(x.shape)}" for n, x in zip(found, tensors, strict=True))
    x = tensors[0]
    if found == ["points"]:
        if x.ndim < 2 or len(x) < 2:
            raise InputError(
                f"points must have the shape (V, ...) with V, the number of vertices, at least 2, "
                f"got {shapes} in {path}; save one row per vertex."
            )
        return x
    if x.ndim < 2 or len(x) < 1 or x.shape != tensors[1].shape:
        raise InputError(
            f"x0 and x1 must have one shape (P, ...) with P, the number of paths, at least 1, got "
            f"{shapes} in {path}; save one row per path."
        )
    return x, tensors[1]


def import_network(name: str) -> Callable[[], nn.Module]:
    """Import the callable that `name` stands for: this runs the user's own code, as asked.

    Args:
        name: "package.module:callable", importable as Python's `import` would, so that a module in
            the current folder is found under ``python -m implreg``.

    Returns:
        The callable; `read_network` calls it without arguments and checks what it returns.

    Raises:
        InputError: another form, no such module, a module that fails when imported, or a name that
            the module does not have or that is not callable.

    >>> import_network("implreg.networks:mlp").__name__
    'mlp'
    """
    if not isinstance(name, str) or not re.fullmatch(f"{_WORD}:{_WORD}", name):
        raise InputError(
            f"network must have the form package.module:callable, got {name!r}; write for example "
            f"models:build for the function build of models.py in this folder."
        )
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's code raises
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        told = f"which raised {explain_error(error)}; mend it"
        if missing and f"{module_name}.".startswith(f"{missing}."):
            told = f"but there is no module {missing}; start from its folder, or install it"
        raise InputError(
            f"network must name a module that can be imported, got {name!r}, {told}."
        ) from error
    try:
        found: Any = attrgetter(attribute)(module)
    except AttributeError as error:
        raise InputError(
            f"network must name something that its module has, got {name!r}, but {module_name} has "
            f"no {attribute}; check the name."
        ) from error
    if not callable(found) or isinstance(found, nn.Module):
        raise InputError(
            f"network must name a function or class that makes the network, got {name!r} of the "
            f"type {type(found).__name__}; write a function that returns it."
        )
    return found  # type: ignore[no-any-return]  # what it returns is checked where it is called


def _loaded(path: Path, kinds: Mapping[str, "_Kind"]) -> object:
    """What the file holds, read as its suffix says."""
    load, writer = kinds.get(path.suffix.lower(), (None, ""))
    if load is None:
        raise InputError(
            f"file must end in one of {', '.join(kinds)}, got {path}; save it in such a format."
        )
    try:
        content = path.read_bytes()  # at once, so that later errors are errors of its content
    except OSError as error:
        raise InputError(
            f"file must be a file that can be read, got {path} ({error.strerror}); check its path."
        ) from error
    if not content:
        raise InputError(f"file must not be empty, got {path} of 0 bytes; save it again.")
    try:
        return load(content, path)
    except InputError:
        raise
    except Exception as error:  # there is no end to what a file of unknown origin can raise
        raise _damaged(path, writer) from error


def _damaged(path: Path, writer: str) -> InputError:
    return InputError(
        f"file must be as {writer} writes it, got {path}, which is damaged, cut short or of "
        f"another kind; save it again."
    )


def _torch(content: bytes, path: Path) -> object:
    # Those that a caller allows himself stay allowed afterwards.
    layers = [x for x in LAYERS if x not in torch.serialization.get_safe_globals()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(layers):
            warnings.simplefilter("ignore")  # about formats; what cannot be read raises
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        found = [f"is {_PROGRAMS[x]}, whose code is" for x in _PROGRAMS if x in content]
        if asked := re.search(r"GLOBAL (\S+)", str(error)):
            found = [f"asks for {_shown(asked[1])}, which was"]
        if not found:
            raise
        raise InputError(
            f"file must hold tensors and layers of torch.nn alone, got {path}, which {found[0]} "
            f"not run; save net.state_dict() of the module itself and name the network."
        ) from error


def _numpy(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of paths; the others are not read and stand as empty arrays."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {n: archive[n] if n in _PATHS else np.empty(0) for n in archive.files}


_Kind = tuple[Callable[[bytes, Path], object], str]  # how a file is loaded, and what writes it
_TORCH: _Kind = (_torch, "torch.save")
_SAFETENSORS: _Kind = (lambda content, _: safetensors.torch.load(content), "safetensors")
_ONNX: _Kind = (lambda _, path: load_onnx(path), "ONNX")
_NUMPY: _Kind = (_numpy, "numpy.savez, without Python objects,")
_NETWORKS = {
    ".pt": _TORCH, ".pth": _TORCH, ".ckpt": _TORCH, ".safetensors": _SAFETENSORS, ".onnx": _ONNX
}  # fmt: skip
_LINES = {".npz": _NUMPY, ".safetensors": _SAFETENSORS, ".pt": _TORCH, ".pth": _TORCH}


def _kind(held: object) -> str:
    if not isinstance(held, Mapping):
        return f"one object of the type {type(held).__name__}"
    return f"the names {_first(list(held))}" if held else "nothing"


def _first(names: Sequence[object]) -> str:
    more = len(names) - _FEW
    return ", ".join(map(_shown, names[:_FEW])) + (f" and {more:,} more" if more > 0 else "")


def _shown(name: object) -> str:
    """A name that a file gives, without line breaks and control characters, and not too long."""
    return repr(str(name))[1:-1][:80]


def _is_state(held: object) -> TypeGuard[Mapping[str, Tensor]]:
    entries = held.items() if isinstance(held, Mapping) else ()
    return bool(entries) and all(isinstance(n, str) and isinstance(x, Tensor) for n, x in entries)


def _renamed(state: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """`state` under the names `own`, from which wrappers and one common start may set it apart.

    Names that do not fit stay as they are; so do all where some fit with and some without the
    start, or two fit one name.
    """
    bare = {_WRAPPERS.sub("", name): name for name in own}
    given = {name: _WRAPPERS.sub("", name) for name in state}
    starts = Counter(
        name[:end]
        for name in given.values()
        for end in (0, *(dot.end() for dot in re.finditer(r"\.", name)))
        # A number is a place in a Sequential, whose other layers may have no parameters.
        if name[end:] in bare and not re.search(r"(^|\.)\d+\.", name[:end])
    )
    start = max(starts, key=lambda x: (starts[x], not x), default="")
    new = {n: bare.get(x.removeprefix(start)) for n, x in given.items() if x.startswith(start)}
    renamed = {new.get(name) or name: value for name, value in state.items()}
    mixed = any(name in own and not new.get(name) for name in state)
    return dict(state) if mixed or len(renamed) < len(state) else renamed


def _filled(network: Callable[[], nn.Module], state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network that `network` builds, with the parameters and buffers in `state`."""
    if not callable(network) or isinstance(network, nn.Module):
        raise InputError(
            f"network must be a function that returns the network, got an object of the type "
            f"{type(network).__name__}; pass for example lambda: net."
        )
    try:
        net: object = network()
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"network must build the network when called without arguments, but raised "
            f"{explain_error(error)}; mend it or name another."
        ) from error
    if not isinstance(net, nn.Module):
        raise InputError(
            f"network must return a torch.nn.Module, but returned an object of the type "
            f"{type(net).__name__}; let it return the network."
        )
    made = net.state_dict()
    own = {name: tuple(value.shape) for name, value in made.items()}
    # Files from before torch counted the batches of its batch norm lack the count, which no output
    # in eval mode depends on.
    counts = {n: v for n, v in made.items() if n.endswith(".num_batches_tracked")}
    state = counts | _renamed(state, own)
    kinds = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {shape}"
            for name, shape in own.items()
            if name in state and tuple(state[name].shape) != shape
        ],
    }
    faults = [f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names]
    advice = "name the network whose parameters were saved, and save no others with them"
    if faults:
        raise InputError(
            f"file must hold the {len(own)} parameters and buffers of the network, got {path} with "
            f"{', '.join(faults)}; {advice}."
        )
    try:
        net.load_state_dict(state, assign=True)  # with copies the network's dtype would round them
    except RuntimeError as error:  # such as integers for weights
        raise InputError(
            f"file must hold the parameters of the network, got {path}, which torch cannot use "
            f"({explain_error(error)}); {advice}."
        ) from error
    return net.eval()
