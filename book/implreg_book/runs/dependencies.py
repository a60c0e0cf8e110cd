"""What a result depends on: the modules that its code imports, and the versions of libraries.

Imports are found by reading the source, nothing is run. Those count that are written as import
statements, wherever they stand, unless only a type checker reads them.
"""

import ast
import hashlib
import importlib.metadata
import json
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Their faces import each public name when it is first used.
PACKAGES = ("implreg", "implreg_book")
# What beside a module can change a result or a page; prose and licences cannot.
DATA = (".npz", ".js", ".css")
# A new release of one of these can change a number.
LIBRARIES = ("torch", "numpy", "scipy", "pandas", "pillow")  # the last one resizes images

_NAME = re.compile(r"[\w.-]+")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Root:
    """A folder on Python's path, and the top-level modules in it that count, by default all."""

    folder: Path
    names: frozenset[str] | None = None

    def file(self, module: str) -> Path | None:
        """Return the source file of `module` if it is here and counts."""
        parts = module.split(".")
        if self.names is not None and parts[0] not in self.names:
            return None
        stem = self.folder.joinpath(*parts)
        places = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
        return next((path for path in places if path.is_file()), None)


def _home(package: str) -> Root:
    """Where a package of ours is, found without importing it."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Root(Path(spec.origin).parent.parent, frozenset({package}))


OWN = tuple(map(_home, PACKAGES))


class Sources:
    """The source files of our packages and, where given, of a user's own modules.

    The `__init__` of ours imports each public name when it is first used. So ``implreg.trace`` is
    an import of the module that has `trace`, and of no other.
    """

    def __init__(self, *roots: Root) -> None:
        self.roots = (*OWN, *roots)

    def file(self, module: str) -> Path | None:
        """Return the source file of `module`, None if it is none of ours."""
        return next((path for root in self.roots if (path := root.file(module))), None)

    def imported(self, code: str, module: str = "") -> set[str]:
        """Return the modules of ours that `code` imports itself, with the packages around them.

        Args:
            code: source of a module, or all cells of a notebook. What Python cannot parse is taken
                to import every module of ours.
            module: its name, for relative imports; a package ends in ``.__init__``.
        """
        try:
            tree = ast.parse(code)
        except SyntaxError:
            return self._with_parents(_all())
        names: set[str] = set()
        aliases: dict[str, str] = {}  # what packages of ours are called
        for node in _statements(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    names.add(alias.name)
                    package = alias.name.partition(".")[0]
                    if package in PACKAGES and (alias.name == package or not alias.asname):
                        aliases[alias.asname or package] = package
            elif isinstance(node, ast.ImportFrom):
                around = module.split(".")[: -node.level] if node.level else []
                base = ".".join([*around, *([node.module] if node.module else [])])
                names.add(base)
                for alias in node.names:
                    if base in PACKAGES:
                        names |= self._public(base, () if alias.name == "*" else (alias.name,))
                    else:
                        names.add(f"{base}.{alias.name}")
        for package, chain in _chains(tree, aliases) if aliases else ():
            names |= self._public(package, chain)
        return self._with_parents(names)

    def reached(self, modules: Iterable[str]) -> dict[str, Path]:
        """Return the files of `modules`, of all modules of ours that they import, and so on."""
        files: dict[str, Path] = {}
        todo = list(self._with_parents(modules))
        while todo:
            module = todo.pop()
            path = None if module in files else self.file(module)
            if path is None:
                continue
            files[module] = path
            if module not in PACKAGES:
                package = f"{module}.__init__" if path.name == "__init__.py" else module
                todo += _imported_by(self.roots[len(OWN) :], package, *_stamped(path))
        return files

    def hashes(self, modules: Iterable[str]) -> dict[str, str]:
        """Return a hash of each module that `modules` reach, and of each file of data beside them.

        Of a module its code counts, not its comments and docstrings. A file of data belongs to the
        package in whose folder it is. The faces of our packages are left out, as they only say
        where public names are.
        """
        files = self.reached(modules)
        hashed = {name: path for name, path in files.items() if name not in PACKAGES}
        for name, path in files.items():
            package = name.partition(".")[0]
            if package in PACKAGES and path.name == "__init__.py":
                folder = path.parents[name.count(".") + 1]
                hashed |= {data.relative_to(folder).as_posix(): data for data in _data(path.parent)}
        return {name: _hash(*_stamped(path)) for name, path in sorted(hashed.items())}

    def _public(self, package: str, chain: tuple[str, ...]) -> set[str]:
        """Return the modules that ``package.a.b.c`` stands for, given as ``("a", "b", "c")``."""
        face = self._face(package)
        if not chain:
            return set(face.values())
        if chain[0].startswith("__"):
            return set()
        module = face.get(chain[0], f"{package}.{chain[0]}")
        if self.file(module) is None:
            return set(face.values())
        if not module.endswith(f".{chain[0]}"):
            return {module}
        return {".".join((module, *chain[1:i])) for i in range(1, len(chain) + 1)}

    def _face(self, package: str) -> dict[str, str]:
        """The module of each public name of a package of ours, from the stub of its face."""
        file = self.file(package)
        assert file is not None
        face = {}
        for name, module in _bound(file.with_suffix(".pyi"), package).items():
            around = self.file(module)
            if around is not None and name not in _bound(around, module):
                inner = f"{module}.{name}"  # a module, unless the one around it binds the name
                module = inner if self.file(inner) else module
            face[name] = module
        return face

    def _with_parents(self, modules: Iterable[str]) -> set[str]:
        names = {module for module in modules if self.file(module)}
        return {
            ".".join(parts[:i])
            for parts in (name.split(".") for name in names)
            for i in range(1, len(parts) + 1)
        }


def root_of(module: str, file: Path) -> Root:
    """Return the folder that `module`, a user's own, was imported from.

    Its neighbours count too, unless it is among installed libraries: there its own package alone.
    """
    up = module.count(".") + (file.name == "__init__.py")
    folder = file.resolve().parents[up]
    installed = {
        Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")
    }
    names = frozenset({module.partition(".")[0]}) if folder in installed else None
    return Root(folder, names)


@cache
def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Return the versions of Python, without patch level, and of the libraries, without build."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in libraries:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name).partition("+")[0]
    return found


def required(*libraries: str) -> dict[str, str]:
    """Return the versions of the libraries, of what they require, what that requires, and so on."""
    found: dict[str, str] = {}
    todo = list(libraries)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        with suppress(importlib.metadata.PackageNotFoundError):
            if name not in found:
                library = importlib.metadata.distribution(name)
                found[name] = library.version
                lines = library.requires or ()
                todo += [_NAME.findall(line)[0] for line in lines if "extra ==" not in line]
    return dict(sorted(found.items()))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all that is no expression, but what only a type checker reads."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        inner: Iterable[ast.AST] = ast.iter_child_nodes(node)
        if isinstance(node, ast.If):
            name = getattr(node.test, "id", getattr(node.test, "attr", ""))
            inner = node.orelse if name == "TYPE_CHECKING" else inner
        todo += [child for child in inner if not isinstance(child, ast.expr)]


def _chains(tree: ast.AST, aliases: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield package and ("a", "b") for every ``alias.a.b``, () for an alias that stands alone."""
    todo = [tree]
    while todo:
        node = todo.pop()
        names: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in aliases:
            yield aliases[inner.id], tuple(reversed(names))
        else:
            todo += ast.iter_child_nodes(node)


@cache
def _imported_by(
    roots: tuple[Root, ...], module: str, path: Path, mtime: int, size: int
) -> frozenset[str]:
    """`Sources.imported` of a file, once for each time that it changes."""
    return frozenset(Sources(*roots).imported(path.read_text(encoding="utf-8"), module))


@cache
def _bound(file: Path, package: str) -> dict[str, str]:
    """The names that a file's ``from`` imports bind, and the package or module each is from."""
    return {
        alias.name: f"{package}.{node.module}" if node.module else package
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _all() -> Iterator[str]:
    """Yield every module of ours."""
    for root, package in zip(OWN, PACKAGES, strict=True):
        for path in (root.folder / package).rglob("*.py"):
            parts = path.relative_to(root.folder).with_suffix("").parts
            yield ".".join(parts[:-1] if path.name == "__init__.py" else parts)


def _data(package: Path) -> Iterator[Path]:
    """Yield the files of data of a package, those of its subpackages left out."""
    for path in sorted(package.iterdir()):
        if path.is_dir():
            if path.name != "__pycache__" and not (path / "__init__.py").exists():
                yield from _data(path)
        elif path.suffix in DATA:
            yield path


def digest(content: object) -> str:
    """Return the hash of `content`, which JSON can hold; of all that a run depends on, its key."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _stamped(path: Path) -> tuple[Path, int, int]:
    """A file with what changes when it does."""
    stamp = path.stat()
    return path, stamp.st_mtime_ns, stamp.st_size


@cache
def _hash(path: Path, mtime: int, size: int) -> str:
    """A hash of a file, of a module of its code alone; once for each time that it changes."""
    content = path.read_bytes()
    if path.suffix == ".py":
        content = code_of(content.decode()).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def code_of(source: str) -> str:
    r"""What of Python's source is code: all but comments, docstrings and layout.

    >>> code_of("x = 1  # one\n\n\ndef f():\n    'Say.'\n    return (x)")
    'x = 1\n\ndef f():\n    return x'
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in _statements(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def main_module() -> tuple[str, Path] | None:
    """Return name and file of the program that runs, None in a notebook or at a prompt."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:
        return None
    spec = getattr(main, "__spec__", None)
    return (spec.name if spec else Path(file).stem), Path(file)
