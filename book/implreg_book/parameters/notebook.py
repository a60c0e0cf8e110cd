"""Parameters as a notebook has them: checked before anything else, and told if they are others."""

import ast
from collections.abc import Mapping
from html import escape
from typing import Any

from IPython.display import display

from implreg_book.parameters.registry import find, profile_of
from implreg_book.parameters.schema import Parameters, Values, in_words, named

_INJECTED = "# Parameters"  # the first line of the cell that papermill adds


def check(chapter: str, namespace: Mapping[str, Any]) -> Parameters:
    """The parameters that a notebook has set, checked; says which differ from the book's.

    To be called in the cell behind that of the parameters, so that nothing runs with wrong ones.

    Args:
        chapter: whose they are.
        namespace: of the notebook, `globals()`.

    Raises:
        InputError: one is not what it may be, or papermill has set one that the chapter lacks.
    """
    schema = find(chapter)
    assert schema is not None, f"chapter {chapter} has no schema"
    known = schema.schema()
    for name in _injected(namespace.get("In", ())):
        named(f"parameter of chapter {chapter}", name, known)
    found = schema.of({name: namespace[name] for name in known})
    if told := banner(found):
        display(told, raw=True)  # type: ignore[no-untyped-call]
    return found


def banner(parameters: Parameters) -> dict[str, str]:
    """What a page says that was not run with the book's own parameters; empty if it was."""
    schema = parameters.schema()
    # Where files lie, which any text may say, changes no number.
    changed = {
        name: value
        for name, value in parameters.changed().items()
        if schema[name].choices or schema[name].of != "str"
    }
    if not changed:
        return {}
    profile = profile_of(parameters)
    title = f"Run with profile {profile}" if profile else "Run with other parameters"
    title += ": its numbers and verdicts are not those of the published book"
    rows = [(n, in_words(x), in_words(schema[n].default)) for n, x in changed.items()]
    lines = [f"`{name}` is {value} instead of {default}" for name, value, default in rows]
    items = "".join(
        f"<li><code>{name}</code> is {escape(value)} instead of {escape(default)}</li>"
        for name, value, default in rows
    )
    return {
        "text/plain": f"{title}. {'; '.join(lines)}.",
        "text/markdown": f"**{title}.** {'; '.join(lines)}.",
        "text/html": '<div class="admonition warning other-parameters">'
        f'<p class="admonition-title">{escape(title)}</p><ul>{items}</ul></div>',
    }


def _injected(cells: Any) -> Values:
    """The names that papermill has set in the cell that it added."""
    return {
        target.id: True
        for source in cells
        if source.startswith(_INJECTED)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
