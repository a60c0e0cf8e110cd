"""The key of a run: a hash of its configuration, its code, its data and the libraries."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import date, timedelta
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from implreg.errors import InputError
from implreg_book.runs.dependencies import Sources, digest, main_module, root_of, versions

# A run returns a table: what draws figures changes none.
_DRAWS = ("implreg.figures", "implreg_book.figures")
# What its repr tells all about.
_ATOMS = (bool, int, float, complex, str, bytes, Path, date, timedelta)


@dataclass(frozen=True)
class Origin:
    """What all runs of a grid have in common.

    Attributes:
        experiment: module and name of the function that runs.
        code: hash of the modules that it imports, "" for a function of a notebook.
        versions: of Python and of the libraries that can change a number.
        data: fingerprint of the data that all runs share, "" if there are none.
    """

    experiment: str
    code: str
    versions: dict[str, str]
    data: str

    def key(self, config: object) -> str:
        """Return the key of the run of `config`: 32 hexadecimal digits."""
        return digest([*asdict(self).values(), fingerprint(config)])[:32]


def origin_of(run: Callable[..., pd.DataFrame], data: object, *, keyed: bool) -> Origin:
    """Return what all runs of the function `run` on `data` have in common.

    Raises:
        InputError: `run` is not a function at the top level of a module, or, with `keyed`, its
            module has no file, as in a notebook; `data` holds what has no fingerprint.
    """
    module, name = getattr(run, "__module__", None), getattr(run, "__qualname__", "")
    if module is None or not name.isidentifier():
        raise InputError(
            f"run must be a function at the top level of a module, got {name or run!r}; define it "
            f"there."
        )
    main = main_module() if module == "__main__" else None
    if main is not None:
        module = main[0]
    known_code(module)  # now, for runs in this process: they notice an edit from here on
    code = code_version(module) if keyed or source_of(module) else ""
    return Origin(
        f"{module}.{name}", code, versions(), "" if data is None else fingerprint(data, "data")
    )


def code_version(module: str) -> str:
    """Return the hash of the source of `module` and of all that it imports.

    Figures are left out, and so are installed libraries, whose versions stand for them.

    Raises:
        InputError: the module has no source file, as in a notebook.
    """
    file = source_of(module)
    if file is None:
        raise InputError(
            f"run must be a function of a module with a source file, so that a change of its code "
            f"is seen, got one of {module}; move it into a .py file or leave the store out."
        )
    hashed = Sources(root_of(module, file)).hashes([module])
    kept = {name: value for name, value in hashed.items() if not name.startswith(_DRAWS)}
    return digest(kept)[:16]


@cache
def known_code(module: str) -> str:
    """Return `code_version` as this process first saw it; "" if there is no source file.

    Asked right after `module` was imported, it is that of the code which runs here.
    """
    return code_version(module) if source_of(module) else ""


def source_of(module: str) -> Path | None:
    """Return the source file of `module`, None if there is none."""
    main = main_module()
    file: str | None
    if main is not None and main[0] == module:
        file = str(main[1])
    elif module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
    else:
        try:
            spec = find_spec(module)
        except (ImportError, ValueError):
            spec = None
        file = spec.origin if spec else None
    path = Path(file or "")  # of a notebook "", of a prompt "<stdin>"
    return path if path.suffix == ".py" and root_of(module, path).file(module) else None


def fingerprint(value: object, name: str = "configs") -> str:
    """Return a hash of the content of `value`, the same in every process and on every machine.

    Args:
        value: None, numbers, text, enumerations, paths, tensors, arrays and tables of them, and
            lists, tuples, mappings and dataclasses of all these.
        name: what an error calls it.

    Raises:
        InputError: something else, such as a module or an open file.

    >>> fingerprint((1, 2.0)) == fingerprint((1, 2.0)), fingerprint((1, 2.0)) == fingerprint([1, 2])
    (True, False)
    """
    digest = hashlib.sha256()
    for part in _parts(value, name):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:32]


def _parts(value: Any, name: str) -> Iterator[bytes]:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    torch = sys.modules.get("torch")  # takes seconds to import, and without it there is no tensor
    if isinstance(value, Enum):
        yield f"{kind}.{value.name}".encode()
    elif value is None or value is pd.NA or isinstance(value, _ATOMS):
        yield f"{type(value).__name__}:{value!r}".encode()
    elif torch and isinstance(value, torch.Tensor) and value.layout is torch.strided:
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        yield f"tensor:{plain.dtype}:{tuple(plain.shape)}".encode()
        yield plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    elif (
        isinstance(value, np.ndarray | np.generic)
        and not isinstance(value, np.ma.MaskedArray)
        and value.dtype.kind in "biufcSUmM"
    ):
        dtype = value.dtype.newbyteorder("<")
        yield f"array:{dtype.str}:{value.shape}".encode()
        yield np.asarray(value, dtype).tobytes()
    elif isinstance(value, pd.DataFrame):
        yield f"table:{value.shape}".encode()
        labels = [list(axis) for axis in (value.index, value.index.names, value.columns)]
        yield from _parts([*labels, *map(str, value.dtypes)], name)
        for column in range(value.shape[1]):
            yield from _parts(value.iloc[:, column].tolist(), name)
    elif isinstance(value, Mapping):
        yield f"mapping:{len(value)}".encode()
        for key in sorted(value, key=repr):
            yield from _parts(key, name)
            yield from _parts(value[key], name)
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__}:{len(value)}".encode()
        for entry in value:
            yield from _parts(entry, name)
    elif is_dataclass(value) and not isinstance(value, type):
        yield kind.encode()
        for field in fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name), name)
    else:
        raise InputError(
            f"{name} must hold numbers, text, tensors, arrays, tables, and lists, mappings and "
            f"dataclasses of them, got a {kind}; pass such values."
        )
