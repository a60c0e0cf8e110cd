"""What a result depends on: the modules that its code imports, and the versions of libraries.

Imports are found by reading the source, nothing is run. Those count that are written as import
statements, wherever they stand, unless only a type checker reads them.
"""

import ast
import hashlib
import importlib.metadata
import platform
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "implreg"
# A new release of one of these can change a number.
LIBRARIES = (
    "torch", "numpy", "scipy", "pandas", "scikit-learn", "mnist1d", "curvlinops-for-pytorch",
)  # fmt: skip


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
        for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if path.is_file():
                return path
        return None


OWN = Root(Path(__file__).parent.parent, frozenset({PACKAGE}))


class Sources:
    """The source files of this package and, where given, of a user's own modules.

    This package's own `__init__` imports each public name when it is first used. So
    ``implreg.trace`` is an import of the module that has `trace`, and of no other.
    """

    def __init__(self, *roots: Root) -> None:
        self.roots = (OWN, *roots)

    def file(self, module: str) -> Path | None:
        """Return the source file of `module`, None if it is none of ours."""
        return next((path for root in self.roots if (path := root.file(module))), None)

    def imported(self, code: str, module: str = "") -> set[str]:
        """Return the modules of ours that `code` imports itself, with the packages around them.

        Args:
            code: source of a module, or all cells of a notebook. What Python cannot parse is taken
                to import every module of this package.
            module: its name, for relative imports; a package ends in ``.__init__``.
        """
        try:
            tree = ast.parse(code)
        except SyntaxError:
            return self._with_parents(_all())
        found = _Imports(self, module)
        found.visit(tree)
        names = set(found.modules)
        for chain in _chains(tree, found.aliases) if found.aliases else ():
            names |= self._public(chain)
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
            if module != PACKAGE:
                package = f"{module}.__init__" if path.name == "__init__.py" else module
                stamp = path.stat()
                todo += _imported_by(
                    self.roots[1:], path, package, stamp.st_mtime_ns, stamp.st_size
                )
        return files

    def hashes(self, modules: Iterable[str]) -> dict[str, str]:
        """Return a hash of each module that `modules` reach, and of each file of data beside them.

        Such a file belongs to the package in whose folder it is. The face of this package is left
        out, as it only says where public names are.
        """
        files = self.reached(modules)
        hashed = {name: path for name, path in files.items() if name != PACKAGE}
        for name, path in files.items():
            if name.partition(".")[0] == PACKAGE and path.name == "__init__.py":
                hashed |= {
                    data.relative_to(OWN.folder).as_posix(): data for data in _data(path.parent)
                }
        return {name: _hash(path) for name, path in sorted(hashed.items())}

    def _public(self, chain: tuple[str, ...]) -> set[str]:
        """Return the modules that ``implreg.a.b.c`` stands for, given as ``("a", "b", "c")``."""
        if not chain:
            return set(_face().values())
        if chain[0].startswith("__"):
            return set()
        module = _face().get(chain[0], f"{PACKAGE}.{chain[0]}")
        if self.file(module) is None:
            return set(_face().values())
        names = {module}
        if module == f"{PACKAGE}.{chain[0]}":
            for name in chain[1:]:
                module = f"{module}.{name}"
                if self.file(module) is None:
                    break
                names.add(module)
        return names

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
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class _Imports(ast.NodeVisitor):
    """Collects the modules in import statements, and what this package itself is called."""

    def __init__(self, sources: Sources, module: str) -> None:
        self.sources = sources
        self.module = module
        self.modules: set[str] = set()
        self.aliases: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        name = test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")
        for child in node.orelse if name == "TYPE_CHECKING" else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.modules.add(alias.name)
            if alias.name == PACKAGE or (alias.name.startswith(f"{PACKAGE}.") and not alias.asname):
                self.aliases.add(alias.asname or PACKAGE)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            around = self.module.split(".")[: -node.level]
            base = ".".join([*around, *([base] if base else [])])
        self.modules.add(base)
        for alias in node.names:
            if base == PACKAGE:
                self.modules |= self.sources._public(() if alias.name == "*" else (alias.name,))
            else:
                self.modules.add(f"{base}.{alias.name}")


def _chains(tree: ast.AST, aliases: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield ("a", "b") for every ``alias.a.b``, and () for an alias that stands alone."""
    todo = [tree]
    while todo:
        node = todo.pop()
        names: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in aliases:
            yield tuple(reversed(names))
        else:
            todo += ast.iter_child_nodes(node)


@cache
def _imported_by(
    roots: tuple[Root, ...], path: Path, module: str, mtime: int, size: int
) -> frozenset[str]:
    """`Sources.imported` of a file, once for each time that it changes."""
    return frozenset(Sources(*roots).imported(path.read_text(encoding="utf-8"), module))


@cache
def _face() -> dict[str, str]:
    """The module of each public name of this package, from the stub of its face."""
    stub = OWN.folder / PACKAGE / "__init__.pyi"
    names = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.name] = f"{PACKAGE}.{node.module or alias.name}"
    return names


def _all() -> Iterator[str]:
    """Yield every module of this package."""
    for path in (OWN.folder / PACKAGE).rglob("*.py"):
        parts = path.relative_to(OWN.folder).with_suffix("").parts
        yield ".".join(parts[:-1] if path.name == "__init__.py" else parts)


def _data(package: Path) -> Iterator[Path]:
    """Yield the files of a package that are not Python's, those of its subpackages left out."""
    for path in sorted(package.iterdir()):
        if path.is_dir():
            if path.name != "__pycache__" and not (path / "__init__.py").exists():
                yield from _data(path)
        elif path.suffix not in (".py", ".pyi", ".pyc"):
            yield path


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main_module() -> tuple[str, Path] | None:
    """Return name and file of the program that runs, None in a notebook or at a prompt."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:
        return None
    spec = getattr(main, "__spec__", None)
    return (spec.name if spec else Path(file).stem), Path(file)
