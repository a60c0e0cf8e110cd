"""The reference: every public name of the instrument once, documented, and linked to from code."""

import ast
import doctest
import importlib.util
import inspect
import json
import re
from collections import Counter
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from implreg_book.press import site

import implreg
from implreg.errors import InputError

ROOT = Path(__file__).parents[2]
PAGES = {page.stem: page.read_text("utf-8") for page in (ROOT / "book" / "api").glob("*.md")}
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
MATHEMATICS = ("theory", "measures", "complexity", "sampled")

_spec = importlib.util.spec_from_file_location("reference", ROOT / "book/_ext/reference.py")
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)
PUBLIC = reference.public()
CALLABLE = {name: thing for name, thing in PUBLIC.items() if callable(thing)}


def documented(page):
    """The names that a page documents."""
    entry = r"^\.\. (?:auto|py:)(?!module|currentmodule)\w+:: ([\w.]+)"
    return re.findall(entry, page, flags=re.MULTILINE)


def members(thing):
    """A function itself; of a class also its public methods and properties."""
    yield "", thing
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            member = getattr(member, "fget", getattr(member, "__func__", member))
            if isinstance(member, FunctionType) and not name.startswith("_"):
                yield name, member


DOCUMENTED = {
    f"{name}.{own}".rstrip("."): member
    for name, thing in CALLABLE.items()
    for own, member in members(thing)
}


def test_every_public_name_is_on_one_page():
    names = Counter(name for page in PAGES.values() for name in documented(page))
    assert names.keys() - PUBLIC.keys() == set(), "these have a shorter name, or are not public"
    assert PUBLIC.keys() - names.keys() == set(), "these are on no page"
    assert [name for name, count in names.items() if count > 1] == []


def test_the_public_face_is_all_there():
    face = {name for name in implreg.__all__ if not name.startswith("__")}
    reached = {id(thing) for thing in PUBLIC.values()}
    modules = {f"implreg.{place}" for place in reference.PLACES}
    for name in face:
        thing = getattr(implreg, name)
        assert id(thing) in reached or getattr(thing, "__name__", "") in modules, name


def test_the_books_own_python_has_one_section_and_no_entries():
    assert sum("## The book's own Python" in page for page in PAGES.values()) == 1
    assert all(":: implreg_book" not in page for page in PAGES.values())


def arguments(thing):
    """The names of all arguments of a function, or of those that make an object of a class."""
    if inspect.isclass(thing) and issubclass(thing, Exception) and "__init__" not in vars(thing):
        return set()  # a message
    return set(inspect.signature(thing).parameters) - {"self", "cls"}


def entries(docstring, *sections):
    """What a docstring lists under its sections Args or Attributes."""
    found = set()
    for section in sections:
        body = re.search(rf"^( *){section}:\n((?:\1 +.*\n|\n)+)", docstring, flags=re.MULTILINE)
        if body:
            lines = re.findall(rf"^{body[1]}    ([\w, ]+):", body[2], flags=re.MULTILINE)
            found |= {name for line in lines for name in line.split(", ")}
    return found


@pytest.mark.parametrize("name", DOCUMENTED)
def test_all_arguments_are_documented(name):
    thing = DOCUMENTED[name]
    docstring = inspect.cleandoc(thing.__doc__ or "") + "\n"
    assert docstring.strip(), f"{name} has no docstring"
    missing = arguments(thing) - entries(docstring, "Args", "Attributes")
    assert not missing, f"{name} does not say what {sorted(missing)} are"


def refuses(function, seen=None):
    """Whether a function, or one of ours that it calls by name, can raise InputError."""
    seen = set() if seen is None else seen
    if function in seen or not isinstance(function, FunctionType):
        return False
    seen.add(function)

    def names(code: CodeType):
        inner = (part for part in code.co_consts if isinstance(part, CodeType))
        return {*code.co_names, *(name for part in inner for name in names(part))}

    called = [function.__globals__.get(name) for name in names(function.__code__)]
    return InputError in called or any(
        refuses(inspect.unwrap(one), seen)
        for one in called
        if getattr(one, "__module__", "").startswith("implreg")
    )


@pytest.mark.parametrize("name", [n for n in DOCUMENTED if arguments(DOCUMENTED[n])])
def test_what_refuses_its_arguments_says_when(name):
    thing = DOCUMENTED[name]
    made_by = [vars(thing).get(own) for own in ("__init__", "__post_init__")]
    if any(map(refuses, made_by if inspect.isclass(thing) else [inspect.unwrap(thing)])):
        assert re.search(r"^ *Raises:\n +InputError: \S", thing.__doc__, flags=re.MULTILINE), name


@pytest.mark.parametrize(
    "name", [name for name in CALLABLE if CALLABLE[name].__module__.split(".")[1] in MATHEMATICS]
)
def test_what_has_mathematics_has_an_example(name):
    assert doctest.DocTestParser().get_examples(CALLABLE[name].__doc__), name


def test_the_site_remembers_the_docstrings_that_its_pages_are_made_from(tmp_path, monkeypatch):
    source = tmp_path / "implreg" / "measures.py"
    source.parent.mkdir()
    monkeypatch.setattr(site, "implreg", SimpleNamespace(__file__=str(source.with_name("x.py"))))

    def hashes(docstring, *pages):
        source.write_text(f'"""{docstring}"""\n', encoding="utf-8")
        return site._documented(SimpleNamespace(pages=pages))

    assert list(hashes("One.", "book/api/measures")) == ["implreg/measures.py"]
    assert hashes("One.", "book/api/measures") != hashes("Two.", "book/api/measures")
    assert hashes("One.", "book/glossary") == {}


# The built site


@pytest.fixture(scope="module")
def anchors(smoke_site):
    """The anchors of each page of the reference."""
    return {
        name: set(re.findall(r'<dt class="sig[^"]*" id="([^"]+)"', html(smoke_site, f"api/{name}")))
        for name in PAGES
    }


def html(smoke_site, page):
    return (smoke_site / "book" / f"{page}.html").read_text("utf-8")


def test_every_page_has_its_anchors(anchors):
    for page, text in PAGES.items():
        assert set(documented(text)) <= anchors[page], page
    assert {f"implreg.Trace.{own}" for own in ("at", "save", "switches")} <= anchors["tracing"]


def test_docstrings_leave_no_markup_on_the_pages(smoke_site):
    for page in PAGES:
        article = BeautifulSoup(html(smoke_site, f"api/{page}"), "html.parser").select_one(
            "article"
        )
        for code in article.select("code, pre, .math, dt.sig"):
            code.decompose()
        assert not re.search(
            r"[`\\]|:math:|\*\w", re.sub(r"\*(input|shape)", "", article.get_text())
        ), page


def used(source):
    """Public names that code uses: as ``ir.name``, or imported from a module of ours."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ir."):
            names.append(reference.find(ast.unparse(node)[3:], [implreg]))
        if isinstance(node, ast.ImportFrom) and re.match(r"implreg\b", node.module or ""):
            module = importlib.import_module(node.module)
            names += [reference.find(alias.name, [module]) for alias in node.names]
    return {*names} & PUBLIC.keys()  # without the modules in ir.figures.show


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_first_use_of_each_name_in_a_chapter_is_a_link(smoke_site, anchors, path):
    shown, folded = set(), set()
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        tags = set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "code" and not tags & {"remove-input", "remove-cell"}:
            (folded if tags & {"hide-input", "hide-cell"} else shown).update(
                used("".join(cell["source"]))
            )
    soup = BeautifulSoup(html(smoke_site, path.stem), "html.parser")
    blocks = [(str(block), block.find_parent("details")) for block in soup.select("pre")]
    code = "".join(block for block, fold in blocks if not fold)
    places = [link["href"].split(".html#") for link in soup.select('pre a[href*="api/"]')]
    assert {anchor for _, anchor in places} == shown | folded
    assert all(anchor in anchors[page.removeprefix("api/")] for page, anchor in places)
    links = [*re.finditer(r'<a [^>]*href="api/[^#"]+#([^"]+)">(.*?)</a>', code)]
    assert sorted(link[1] for link in links) == sorted(shown), (
        "each once in code that is not folded"
    )
    for link in links:
        name, before = (re.sub("<[^>]*>", "", part) for part in (link[2], code[: link.start()]))
        assert link[1].endswith(name.split(".")[-1])
        assert not re.search(rf"\b{re.escape(name)}\b", before), "the first use"
