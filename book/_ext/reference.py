"""Sphinx extension: the reference, made from the docstrings of `implreg`, and links to it.

Docstrings name arguments, values and public names alike in single backticks, as a reader of the
source wants it. Here each is looked up from where the docstring stands: public names become links,
all others code. On other pages the first use of a public name in code is a link too.
"""

import importlib
import inspect
import re
from collections.abc import Sequence
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import implreg

PAGES = "book/api/"
# What is public: of these all that `__all__` lists, of modules without it all that they define.
PLACES = (
    "tracing", "datasets", "training", "theory", "complexity", "figures", "widgets",
    "measures", "sampled", "files", "networks",
)  # fmt: skip

_TOKEN = re.compile(
    r"^ *(?:>>>|\.\.\.) [^\n]*"  # of a doctest
    r"|^(?P<indent> *)\.\. math::[^\n]*(?:\n(?P=indent) +[^\n]*|\n *(?=\n))*"
    r"|``.+?``|:[\w:]+:`[^`]+`|(?<!\w)\*[^\s*][^*\n]*[^\s*]\*(?!\w)"  # literals, roles, emphasis
    r"|`(?P<name>[^`]+)`"
    r"|:raises (?P<error>\w+):"
    r"|(?P<sign>(?<![\w*\\])\*(?=\w)|(?<!\\)\|(?=\S))",  # of a shape (N, *shape), of a size |g|
    re.MULTILINE | re.DOTALL,
)
# Code as Pygments marks it: ir.theory.fluctuation; from implreg.files import read_network.
_USE = re.compile(
    r'<span class="n">ir</span>(?P<chain>(?:<span class="o">\.</span><span class="n">\w+</span>)+)'
)
_IMPORT = re.compile(
    r'(?P<from><span class="kn">from</span>.*?<span class="nn">(?P<module>implreg(?:\.\w+)*)</span>'
    r'.*?<span class="kn">import</span>)(?P<names>.*)'
)
_IMPORTED = re.compile(r'<span class="n">(\w+)</span>')
_BLOCK = re.compile(r"(?P<open><details)|(?P<close></details>)|<pre>.*?</pre>", re.DOTALL)


@cache
def public() -> dict[str, Any]:
    """Every public name of the instrument and what it stands for.

    What has several names counts once, under the shortest to write.
    """
    found: dict[str, Any] = {}
    for place in [implreg, *map(_module, PLACES)]:
        for name in getattr(place, "__all__", _own(place)):
            thing = getattr(place, name)
            known = any(thing is other for other in found.values())
            if not (known or isinstance(thing, ModuleType) or name.startswith("__")):
                found[f"{place.__name__}.{name}"] = thing
    return found


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"implreg.{name}")


def _own(module: ModuleType) -> list[str]:
    """Classes and functions that a module defines for others."""
    return [
        name
        for name, thing in vars(module).items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
        and not name.startswith("_")
    ]


@cache
def _targets() -> dict[int, str]:
    """What has a place in the reference, by identity: public names, their methods, and modules."""
    found = {id(_module(name)): f"implreg.{name}" for name in PLACES}
    for name, thing in public().items():
        found[id(thing)] = name
        if inspect.isclass(thing):
            found |= {
                id(member): f"{name}.{own}"
                for own, member in vars(thing).items()
                if not own.startswith("_")
                and isinstance(member, classmethod | property | type(_own))
            }
    return found


def find(chain: str, scopes: Sequence[Any]) -> str | None:
    """What the reference calls the thing that a dotted name stands for in one of the scopes.

    An attribute of a class, which has no place of its own, is found with its class.
    """
    for scope in scopes:
        thing, name = scope, None
        for part in chain.split("."):
            of_class = inspect.isclass(thing)
            thing = (inspect.getattr_static if of_class else getattr)(thing, part, None)
            name = _targets().get(id(thing), name if of_class else None)
        if name:
            return name
    return None


def _mark_up(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Turn the single backticks of a docstring into links and code."""
    thing = getattr(thing, "fget", thing)
    scopes = [implreg, SimpleNamespace(implreg=implreg)]
    if module := inspect.getmodule(thing):
        scopes.insert(0, module)
    owner = thing if what == "class" else public().get(name.rpartition(".")[0])
    if inspect.isclass(owner):
        scopes.insert(0, owner)
    try:
        arguments = set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):  # a constant
        arguments = set()

    def marked(token: re.Match[str]) -> str:
        if sign := token["sign"]:
            return f"\\{sign}"
        if word := token["error"]:
            target = find(word, scopes)
            return f":raises ~{target}:" if target else token[0]
        if word := token["name"]:
            chain = word.partition("(")[0]  # of a call
            target = None if chain.split(".")[0] in arguments else find(chain, scopes)
            return f":py:obj:`{word} <{target}>`" if target else f"``{word}``"
        return token[0]

    lines[:] = _TOKEN.sub(marked, "\n".join(lines)).split("\n")


def _say_attributes(app: Sphinx, doctree: nodes.document) -> None:
    """Call the attributes of a class what its docstring calls them."""
    for field in doctree.findall(nodes.field_name):
        if field.astext() == "Variables":
            field[:] = [nodes.Text("Attributes")]


def _link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Link the first use of each name in the code of a page; again where that one was folded."""
    if page.startswith(PAGES) or not context.get("body"):
        return
    objects = app.env.domains["py"].objects  # type: ignore[attr-defined]
    linked: dict[bool, set[str]] = {False: set(), True: set()}  # by whether code is folded
    depth = 0

    def link(code: str, chain: str, scope: Any) -> str:
        name = find(chain, [scope])
        if name not in objects or name in linked[False] or (depth and name in linked[True]):
            return code
        linked[depth > 0].add(name)
        place = objects[name]
        address = f"{context['pathto'](place.docname)}#{place.node_id}"
        return f'<a class="reference internal" href="{address}">{code}</a>'

    def used(code: re.Match[str]) -> str:
        return link(code[0], re.sub("<[^>]*>", "", code["chain"]).removeprefix("."), implreg)

    def imported(code: re.Match[str]) -> str:
        module = importlib.import_module(code["module"])
        return code["from"] + _IMPORTED.sub(lambda n: link(n[0], n[1], module), code["names"])

    def block(code: re.Match[str]) -> str:
        nonlocal depth
        depth += bool(code["open"]) - bool(code["close"])
        return _IMPORT.sub(imported, _USE.sub(used, code[0]))

    context["body"] = _BLOCK.sub(block, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.connect("autodoc-process-docstring", _mark_up, priority=600)  # after napoleon
    app.connect("doctree-read", _say_attributes)
    app.connect("html-page-context", _link, priority=950)  # after lean_pages, which folds
    return {"parallel_read_safe": True, "parallel_write_safe": True}
