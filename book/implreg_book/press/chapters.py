"""What the book is made of: chapters with typed parameters, and profiles that set them."""

import ast
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from implreg.errors import InputError
from implreg_book.parameters.registry import DEFAULT_PROFILE, find
from implreg_book.parameters.schema import (
    TYPES,
    Parameter,
    Parameters,
    Value,
    Values,
    fits,
    in_time,
    named,
    parse,
    parse_several,
)
from implreg_book.runs.dependencies import Root, Sources

# The parameter of a chapter that reads other chapters: the folder where they lie, executed.
CHAPTERS_PARAMETER = "chapters"


@dataclass(frozen=True)
class Chapter:
    """A chapter as its author wrote it: a notebook without outputs."""

    name: str
    source: Path
    title: str
    notebook: nbformat.NotebookNode
    parameters: dict[str, Parameter]
    schema: type[Parameters] | None  # how its parameters go together
    reads_chapters: bool
    also_imports: tuple[str, ...]  # by what it starts as a program of its own

    def parameter(self, name: str) -> Parameter:
        """Return the parameter called `name`, else raise `InputError`."""
        return named(f"parameter of chapter {self.name}", name, self.parameters)

    def parse(self, name: str, text: str) -> Value:
        """Return the value that a user typed as `text` for a parameter."""
        return parse(self.name, self.parameter(name), text)

    def parse_several(self, name: str, text: str) -> list[Value]:
        """Return the values that a user typed, with commas between them, for a parameter."""
        return parse_several(self.name, self.parameter(name), text)

    def cost_of(self, name: str) -> str:
        """What one more of a parameter takes in CPU time, "" if that is not known or nothing."""
        seconds = self.schema.unit_cost(name) if self.schema else 0.0
        return in_time(seconds) if seconds else ""

    def cost(self, values: Mapping[str, Any]) -> str:
        """What the chapter takes in CPU time without stored results, "" if that is not known."""
        return in_time(self.schema.of(values).cost()) if self.schema else ""

    def checked(self, values: Mapping[str, Any]) -> Values:
        """Return `values`, each of its type and allowed, and all going together.

        Raises:
            InputError: one is not, or they do not.
        """
        if self.schema is None:
            return {n: self.parameter(n).typed(self.name, value) for n, value in values.items()}
        every = self.schema.of(values).values()
        return {name: every[name] for name in values}


@dataclass(frozen=True)
class Book:
    """All chapters and pages of the table of contents, in its order, and all profiles."""

    root: Path
    chapters: dict[str, Chapter]
    pages: list[str]
    profiles: dict[str, dict[str, Values]]
    config: dict[str, Any]  # of Jupyter Book

    def chapter(self, name: str) -> Chapter:
        """Return the chapter called `name`, else raise `InputError`."""
        return named("chapter", name, self.chapters)

    def values(self, chapter: Chapter, profile: str, given: Mapping[str, Any]) -> Values:
        """Return what `profile`, and above it `given`, set for `chapter`, checked.

        Parameters that neither of them sets keep the default of the chapter's own cell and are
        not in the result.
        """
        own = named("profile", profile, self.profiles).get(chapter.name, {})
        return chapter.checked(own | dict(given))


def load_book(root: Path) -> Book:
    """Read the table of contents, the chapters and the profiles of the book in folder `root`.

    Raises:
        InputError: a file is missing or malformed, or a profile names a chapter, a parameter or a
            value that the book does not have.
    """
    toc = _read_yaml(root / "_toc.yml")
    chapters: dict[str, Chapter] = {}
    pages = []
    for entry in _files(toc):
        source = root / f"{entry}.ipynb"
        if source.is_file():
            if source.stem in chapters:
                raise InputError(
                    f"_toc.yml has two chapters called {source.stem}; give each its own file name."
                )
            chapters[source.stem] = _load_chapter(source, Sources(Root(root)))
        elif (root / f"{entry}.md").is_file():
            pages.append(entry)
        else:
            raise InputError(
                f"_toc.yml names {entry}, but there is neither {entry}.ipynb nor {entry}.md; "
                f"write one of them or take the line out."
            )
    config = _read_yaml(root / "_config.yml")
    book = Book(root, chapters, pages, {DEFAULT_PROFILE: {}}, config)
    book.profiles.update(_load_profiles(root / "book" / "profiles.yml", book))
    return book


def _load_chapter(source: Path, sources: Sources) -> Chapter:
    try:
        notebook = nbformat.read(source, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{source.name} must be a Jupyter notebook, but it cannot be read ({reason}); mend it."
        ) from error
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    heading = re.search(r"^# (.*)", prose, re.MULTILINE)
    metadata = notebook.metadata.get("implreg", {})
    schema, found = find(source.stem), _load_parameters(source, notebook)
    if schema is not None:
        _check_cell(source, notebook, schema)
        found = schema.schema()
    return Chapter(
        name=source.stem,
        source=source,
        title=heading[1].strip() if heading else source.stem,
        notebook=notebook,
        parameters=found,
        schema=schema,
        reads_chapters=bool(metadata.get("reads_chapters", False)),
        also_imports=_load_modules(source, metadata.get("also_imports", []), sources),
    )


def _load_modules(source: Path, names: object, sources: Sources) -> tuple[str, ...]:
    listed = names if isinstance(names, list) else [names]
    wrong = [name for name in listed if not (isinstance(name, str) and sources.file(name))]
    if wrong or listed is not names:
        raise InputError(
            f"also_imports in the metadata of {source.name} must list modules of implreg or of the "
            f'book\'s folder, got {wrong or names!r}; write for example ["implreg.commands.trace"].'
        )
    return tuple(listed)


def _load_parameters(source: Path, notebook: nbformat.NotebookNode) -> dict[str, Parameter]:
    found = papermill.inspect_notebook(source)
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    # papermill only warns about a line that it cannot read and goes on without it.
    assigned = {
        target.id
        for cell in cells
        for statement in ast.parse(cell.source).body
        for target in ast.walk(statement)
        if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
    }
    if len(cells) > 1 or assigned != set(found):
        raise InputError(
            f"{source.name} must have one cell tagged parameters with one line "
            f"`name: type = value  # help` each and no other =; write it so."
        )
    parameters = {}
    for name, entry in found.items():
        kind, text = entry["inferred_type_name"].replace(" ", ""), entry["default"]
        if kind not in TYPES:
            raise InputError(
                f"parameter {name} of {source.name} must have one of the types {', '.join(TYPES)}, "
                f"got {kind}; write `{name}: type = value`."
            )
        default: Any = None
        with suppress(ValueError, SyntaxError):
            default = ast.literal_eval(text)
        if not fits(kind, default):
            raise InputError(
                f"parameter {name} of {source.name} must have a plain {kind} as its default, "
                f"got {text}; write one."
            )
        parameters[name] = Parameter(name, kind, default, entry["help"])
    return parameters


def _check_cell(source: Path, notebook: nbformat.NotebookNode, schema: type[Parameters]) -> None:
    """Refuse a cell of parameters that says anything else than the schema."""
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    ours, theirs = cell.source.strip().splitlines(), schema.cell().splitlines()
    for line in theirs:
        if line not in ours:
            raise InputError(
                f"the cell of parameters of {source.name} must say what {schema.__module__} does, "
                f"but lacks the line `{line}`; write it there, or change it here."
            )
    if ours != theirs:
        raise InputError(
            f"the cell of parameters of {source.name} must have the {len(theirs)} lines of "
            f"{schema.__module__} in their order, got {len(ours)}; write it so."
        )


def _load_profiles(path: Path, book: Book) -> dict[str, dict[str, Values]]:
    content = _read_yaml(path)
    if DEFAULT_PROFILE in content:
        raise InputError(
            f"{path.name} must not hold a profile called {DEFAULT_PROFILE}, which is what the "
            f"parameter cells say; edit those instead."
        )
    profiles: dict[str, dict[str, Values]] = {}
    for profile, chapters in content.items():
        where = f"profile {profile} in {path.name}"
        values = profiles[str(profile)] = {}
        for name, given in _mapping(f"{where} must map chapters to parameters", chapters).items():
            try:
                chapter = book.chapter(str(name))
                checked = _mapping(f"chapter {name} must map parameters to values", given)
                values[chapter.name] = chapter.checked(checked)
            except InputError as error:
                raise InputError(f"{where}: {error}") from error
    return profiles


def _mapping(rule: str, value: object) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{rule}, got {value!r}; write {{}} for an empty one.")
    return value


def _files(node: object) -> list[str]:
    """Return the entries of a table of contents in reading order."""
    if isinstance(node, list):
        return [file for entry in node for file in _files(entry)]
    if not isinstance(node, dict):
        return []
    own = [str(node[key]) for key in ("root", "file") if key in node]
    return own + [file for value in node.values() for file in _files(value)]


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path.name} was not found in {path.parent.resolve()}; call implreg from the top "
            f"folder of the book."
        ) from error
    except yaml.YAMLError as error:
        raise InputError(
            f"{path.name} must be YAML, but {' '.join(str(error).split())}; mend it."
        ) from error
    return _mapping(f"{path.name} must hold a mapping", content)
