"""What the build adds to the book: generated pages, downloads, addresses, descriptions, links."""

import shutil
import struct
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest
import yaml

pytest.importorskip("papermill", reason="the pipeline needs the book: pip install ./book")
pytest.importorskip("bs4", reason="these tests need the extra test: pip install .[test]")

from _project import CONFIG, Project
from bs4 import BeautifulSoup
from implreg_book.press import pages, printed
from implreg_book.press.address import Address, find_address, with_address
from implreg_book.press.chapters import load_book
from implreg_book.runs.results import Kept, describe
from pybtex.database import parse_string

from implreg import commands
from implreg.errors import InputError

pytestmark = [
    pytest.mark.pages,
    pytest.mark.timeout(func_only=True),  # the site has a limit of its own
]
ROOT = Path(__file__).resolve().parents[2]
NOWHERE = Address("", "main", "")
GITHUB = Address("https://github.com/someone/book", "main", "https://someone.github.io/book/")


# Status


def ran(*printed: str) -> nbformat.NotebookNode:
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in printed]
    cell = nbformat.v4.new_code_cell("run()", outputs=outputs)
    return nbformat.v4.new_notebook(cells=[cell])


def kept(date: str, code: str = "a") -> Kept:
    origin = {"code": code, "versions": {"torch": "2.13.0"}}
    return Kept({}, pd.DataFrame(), 3.0, f"{date}T10:00:00+00:00", origin)


def test_where_results_come_from_is_read_from_what_grids_print() -> None:
    assert pages._results(ran("a line", "another")) == "computed"
    whole = describe([kept("2026-11-24"), kept("2026-11-25")], 2, "a")
    assert pages._results(ran(whole)) == "stored, 2026-11-24 to 2026-11-25"
    part = describe([kept("2026-11-25")], 1_999, "b")
    assert pages._results(ran(whole, part)) == (
        "stored (3 of 2,001 runs), 2026-11-24 to 2026-11-25; code edited since"
    )


# Figures


def test_an_entry_of_the_index_is_the_first_sentence_of_the_caption() -> None:
    def short(caption: str) -> tuple[str, str]:
        return pages._short(caption, {"n": "12"})

    assert short("A line. Faint: seeds.") == ("A line.", "")
    assert short("Figures 4 a–c of the paper. At t = 0.5 they bend. More.") == (
        "At t = 0.5 they bend.", "4 a–c",
    )  # fmt: skip
    assert short("Figure 3 of the paper, raw. Gaps.") == ("Gaps.", "3")
    assert short("Over {glue:text}`n` and {glue:text}`m:.2f` runs.") == ("Over 12 and … runs.", "")


# Citation


def test_the_citation_is_bibtex_that_bibtex_reads() -> None:
    run = {"date": "2026-11-28T01:00:00+00:00", "commit": "abc1234"}
    page = pages.Page(None, None, None, run)  # type: ignore[arg-type]
    text = pages.citation((ROOT / "CITATION.cff").read_text(), [page], GITHUB)
    blocks = [part.split("```")[0] for part in text.split("```bibtex\n")[1:]]
    entries = parse_string("\n".join(blocks), "bibtex").entries
    own, paper = entries.values()
    assert own.type == "software" and own.fields["note"] == "commit abc1234"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (own.fields["version"], own.fields["year"]) == (version, "2026")
    assert own.fields["url"] == GITHUB.site
    people = [str(person) for person in paper.persons["author"]]
    assert people[0] == "Kubo, Masayoshi" and len(people) == 4
    assert (paper.fields["eprint"], paper.fields["year"]) == ("1903.01997", "2019")
    assert "url" not in parse_string(
        pages.citation((ROOT / "CITATION.cff").read_text(), [page], NOWHERE)
        .split("```bibtex\n")[1].split("```")[0], "bibtex",
    ).entries["implreg2026"].fields  # fmt: skip


# Addresses


@pytest.mark.parametrize(
    ("repository", "site", "told"),
    [
        ("github.com/o/n", None, "such as https://github.com/owner/name, got 'github.com/o/n'"),
        ("https://github.com/o", None, "got 'https://github.com/o'"),
        ("https://github.com/o/n/tree/main", None, "the repository must have an address"),
        (None, "o.github.io", "the site must have an address"),
    ],
)
def test_malformed_addresses_are_refused(repository: Any, site: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        find_address({}, repository, site)


def test_addresses_are_those_given_or_else_those_of_the_settings() -> None:
    config = {"repository": {"url": "https://gitlab.com/o/n/", "branch": "trunk"}}
    assert find_address(config, None, None) == Address("https://gitlab.com/o/n", "trunk", "")
    found = find_address(config, "https://github.com/o/n.git", "https://o.github.io/n")
    assert found == Address("https://github.com/o/n", "trunk", "https://o.github.io/n/")
    assert find_address({"repository": {"url": ""}}, None, None) == NOWHERE
    # Neither Binder's nor Colab's addresses of this form are for others than GitHub.
    elsewhere = Address("https://gitlab.com/o/n", "main", "")
    assert elsewhere.binder == elsewhere.colab == ""
    assert "launch_buttons" not in with_address({}, elsewhere)
    assert with_address({}, NOWHERE) == {"html": {}}


def test_buttons_open_the_chapter_that_the_repository_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    shutil.copytree(ROOT / "book" / "_ext", tmp_path / "book" / "_ext")
    extensions = "sphinx: {local_extensions: {page_meta: book/_ext}}\n"
    project.write("_config.yml", f"{CONFIG}{extensions}")
    project.chapter("alpha", "print(1)", prose="What is it? A *test*.")
    project.chapter("beta", "print(2)")
    project.toc("alpha", "beta")

    def build(*words: str) -> BeautifulSoup:
        monkeypatch.setattr(sys, "argv", ["implreg", "book", *words])
        assert commands.main() == 0
        return BeautifulSoup(project.page("alpha"), "html.parser")

    plain = build()
    assert not [a for a in plain.select("a[href]") if "github.com/" in a["href"]]
    assert not plain.select("a[href*=mybinder], a[href*='research.google']")
    assert not plain.select("meta[property='og:url']")

    page = build("--repository", GITHUB.repository, "--address", GITHUB.site)
    for selector, start in (("mybinder.org", GITHUB.binder), ("research.google", GITHUB.colab)):
        links = [a["href"] for a in page.select(f"a[href*='{selector}']")]
        assert len(links) == 2  # the theme's button, and the line at the end of the chapter
        for link in links:
            assert link.startswith(start)
            assert (tmp_path / link.removeprefix(start)).is_file()
    assert page.select_one("meta[property='og:url']")["content"] == (
        "https://someone.github.io/book/book/alpha.html"
    )
    assert page.select_one("meta[name=description]")["content"] == "What is it? A test."
    assert f"git+{GITHUB.repository}@main" in page.get_text()


def test_binder_finds_an_environment_that_installs_this_package() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1]["pip"][-2:] == ["-e .", "-e ./book"]
    for chapter in load_book(ROOT).chapters.values():
        assert (ROOT / "book" / chapter.source.name).is_file()


# Print


def test_without_latex_the_pdf_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path)
    project.chapter("alpha", "print(1)")
    project.toc("alpha")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["implreg", "book", "--pdf"])
    assert commands.main() == 1
    told = capsys.readouterr().err
    assert "--pdf needs xelatex and latexmk, and xelatex and latexmk cannot be found" in told
    assert told.count("\n") == 1 and not (tmp_path / "_build").exists()


def test_print_has_tables_and_captions_but_no_folded_code() -> None:
    html = "<table><tr><th>a_b</th></tr>" + "<tr><td>1.5 [1, 2]</td></tr>" * 60 + "</table>"
    shown = nbformat.v4.new_output("execute_result", data={"text/html": html, "text/plain": "x"})
    caption = {"figure": {"name": "fig", "caption": "Made by the code cell above in this run."}}
    cell = nbformat.v4.new_code_cell(
        "show()", outputs=[shown], metadata={"tags": ["hide-input"], "mystnb": caption}
    )
    page = printed.for_print(nbformat.v4.new_notebook(cells=[cell]))
    nbformat.validate(page)
    code, table = page.cells
    assert code.metadata.tags == ["remove-input"] and not code.outputs
    assert code.metadata.mystnb.figure.caption == "Made by this run."
    assert table.source.count("| a\\_b |") == 5  # one of 60 rows would not wrap
    assert table.source.count("1.5 \\[1,\N{NO-BREAK SPACE}2\\]") == 60
    assert shown.data  # the page for the screen is left as it is


def test_a_book_becomes_a_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("xelatex") is None or shutil.which("latexmk") is None:
        pytest.skip("the PDF needs xelatex and latexmk, which are not installed.")
    project = Project(tmp_path)
    latex = "latex: {latex_engine: xelatex, latex_documents: {targetname: book.tex}}\n"
    project.write("_config.yml", f"{CONFIG}{latex}")
    project.chapter("alpha", "print(1)", prose="Where σ ≥ −1 and $\\mathbb{1}_{x > 0}$.")
    project.chapter("beta", "print(2)")
    project.toc("alpha", "beta")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["implreg", "book", "--pdf"])
    assert commands.main() == 0
    assert (tmp_path / "_build" / "book.pdf").read_bytes().startswith(b"%PDF")
    assert "Missing character" not in (tmp_path / "_build" / "pdf.log").read_text()


# The built site


def parsed(folder: Path) -> dict[Path, BeautifulSoup]:
    return {
        path: BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in [*folder.glob("*.html"), *folder.glob("book/**/*.html")]
    }


@pytest.fixture(scope="session")
def documents(smoke_site: Path) -> dict[Path, BeautifulSoup]:
    return parsed(smoke_site)


def dead_links(documents: dict[Path, BeautifulSoup]) -> list[str]:
    """Return what leads nowhere: files of the site, and places in its pages."""
    places = {
        path: {tag[key] for key in ("id", "name") for tag in page.select(f"[{key}]")}
        for path, page in documents.items()
    }
    dead = []
    for path, page in documents.items():
        links = [tag[key] for key in ("href", "src") for tag in page.select(f"[{key}]")]
        for link in dict.fromkeys(links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file():
                dead.append(f"{path.name}: {link} is not there")
            elif anchor and anchor not in places.get(target, set()):
                dead.append(f"{path.name}: {link} has no such place")
    return dead


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "index.html").write_text('<a href="book/a.html#here">1</a><a href="b.html">2</a>')
    (tmp_path / "book" / "a.html").write_text('<p id="here"></p><a href="#gone">3</a>')
    assert dead_links(parsed(tmp_path)) == [
        "index.html: b.html is not there", "a.html: #gone has no such place",
    ]  # fmt: skip


def test_every_link_within_the_site_leads_somewhere(documents: dict[Path, BeautifulSoup]) -> None:
    assert len(documents) > 20
    assert not dead_links(documents)


def test_every_page_says_what_it_is_about(documents: dict[Path, BeautifulSoup]) -> None:
    described = {path: page for path, page in documents.items() if path.parent.name == "book"} | {
        path: page for path, page in documents.items() if path.name == "index.html"
    }
    for path, page in described.items():
        meta = {
            tag.get("name") or tag.get("property"): tag["content"]
            for tag in page.select("meta[content]")
        }
        about = meta.get("description", "")
        if path.name != "references.html":  # nothing but a list
            assert 40 <= len(about) <= 200, f"{path.name}: {about!r}"
        assert not set(about) & set("\\{}$`"), f"{path.name}: {about!r}"
        assert meta["og:title"]
        card = path.parent / meta["og:image"]
        assert struct.unpack(">II", card.read_bytes()[16:24]) == (1200, 630)


def test_chapters_can_be_downloaded_as_written_and_as_they_ran(
    smoke_site: Path, documents: dict[Path, BeautifulSoup]
) -> None:
    for name, chapter in load_book(ROOT).chapters.items():
        path = smoke_site / "book" / f"{name}.html"
        end = documents[path].select_one(f"#run-{name}").find_parent("section")
        files = [path.parent / a["href"] for a in end.select("a.download[href]")]
        assert [file.name for file in files] == [f"{name}.ipynb"] * 2
        written, as_ran = (nbformat.read(file, as_version=4) for file in files)
        for notebook in (written, as_ran):
            nbformat.validate(notebook)
        assert written == chapter.notebook
        assert any(cell.get("outputs") for cell in as_ran.cells)
        assert "key" in as_ran.metadata.implreg


def test_status_and_figures_name_every_chapter_and_every_figure(
    smoke_site: Path, documents: dict[Path, BeautifulSoup]
) -> None:
    book = load_book(ROOT)
    status = documents[smoke_site / "book" / "status.html"].select("article table tbody tr")
    first = [row.select_one("a")["href"] for row in status]
    assert first == [f"{name}.html" for name in book.chapters]

    index = documents[smoke_site / "book" / "figures.html"]
    linked = {a["href"] for a in index.select("article table a[href]")}
    for name, chapter in book.chapters.items():
        names = [figure for _, figure, _ in pages._figures(chapter.notebook)]
        for figure in names:
            assert {f"{name}.html#{figure}", f"{name}.html#code-{figure}"} <= linked
        assert not names or f"{name}.html#run-{name}" in linked
