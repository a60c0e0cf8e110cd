"""How large the two houses are, and who imports whom; ``python tests/_house.py`` prints it.

Lines of code are those that are left without docstrings, comments and blank lines.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSTRUMENT, BOOK = ROOT / "implreg", ROOT / "book" / "implreg_book"

_LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER, tokenize.ENCODING,
}  # fmt: skip
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """A module of one of the houses."""

    path: Path
    name: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def code(self) -> frozenset[int]:
        """Numbers of its lines of code."""
        words: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                words |= _lines(node.body[0])
        lines: set[int] = set()
        source = io.StringIO(self.path.read_text(encoding="utf-8"))
        for token in tokenize.generate_tokens(source.readline):
            if token.type not in _LAYOUT:
                lines |= set(range(token.start[0], token.end[0] + 1))
        return frozenset(lines - words)

    @cached_property
    def functions(self) -> dict[str, int]:
        """Lines of code of each function, nested ones counted with those around them."""
        found = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {
            f"{self.name}.{node.name}": len(self.code & _lines(node))
            for node in ast.walk(self.tree)
            if isinstance(node, found)
        }

    def imports(self) -> Iterator[str]:
        """What it imports, wherever the statement stands, also for type checkers alone."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module or ""
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(house: Path) -> list[Module]:
    """All modules of a house."""
    return [
        Module(path, ".".join(path.relative_to(house.parent).with_suffix("").parts))
        for path in sorted(house.rglob("*.py"))
    ]


def room(name: str) -> str:
    """The room that a module is in: ``implreg.tracing.read`` is in ``tracing``."""
    return name.split(".")[1]


def _lines(node: ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def main() -> None:
    """Print the sizes."""
    for house in (INSTRUMENT, BOOK):
        every = modules(house)
        sizes: dict[str, int] = {}
        for module in every:
            sizes[room(module.name)] = sizes.get(room(module.name), 0) + len(module.code)
        print(f"{house.relative_to(ROOT)}: {sum(sizes.values()):,} lines of code")
        for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
            print(f"  {size:6,}  {name}")
        largest = max(every, key=lambda module: len(module.code))
        name, size = max(
            ((n, s) for module in every for n, s in module.functions.items()), key=lambda x: x[1]
        )
        print(f"  largest file: {largest.path.relative_to(ROOT)}, {len(largest.code)}")
        print(f"  largest function: {name}, {size}")


if __name__ == "__main__":
    main()
