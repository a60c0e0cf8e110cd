"""From executed chapters to a static site: staging, then Jupyter Book with execution off."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat
import yaml

import implreg
from implreg.errors import prepare_folder
from implreg_book.press import explorers
from implreg_book.press.address import with_address
from implreg_book.press.card import draw_card, first_picture
from implreg_book.press.chapters import Book, Chapter
from implreg_book.press.execute import Outcome
from implreg_book.press.page import stage_chapter
from implreg_book.press.pages import MADE, RAN, WRITTEN, Page, complete, made
from implreg_book.press.plan import Run, Task
from implreg_book.press.printed import for_print, set_latex, toc_for_print
from implreg_book.press.provenance import Inputs
from implreg_book.press.why import changes, listed, other_versions
from implreg_book.runs.dependencies import Sources, digest, required, versions

MADE_FROM = ".made-from.json"  # in the site's folder: its inputs
BESIDE = ("CITATION.cff", "CHANGELOG.md")  # files at the top of the project that pages show
ASSETS = "book/_assets"
REFERENCE = "book/api/"  # its pages are made from docstrings, see book/_ext/reference.py
CARD = "card.png"  # among the assets; book/_ext/page_meta.py tells of it
# Folders in that of the book that hold nothing for Jupyter Book.
NO_PAGES = {".ipynb_checkpoints", "__pycache__", "implreg_book", "implreg_book.egg-info", "results"}
# A new release of one of these, or of what it requires, can change a page.
BUILDERS = ("jupyter-book", "sphinx-exercise", "sphinx-proof")
STRICT = ("-W", "--keep-going", "-n")
PROBLEMS_SHOWN = 10


class SiteError(RuntimeError):
    """A site that could not be built; the message says why and where the log is."""


def site_inputs(task: Task, runs: Mapping[str, Run]) -> Inputs:
    """Return all that the site is made from, as JSON can hold it.

    These are pages, assets and settings, the prose of the chapters and their `runs`, the modules
    of the pipeline, the versions of the libraries, and the address of repository and site.
    """
    book = task.book
    modules = Sources().hashes([__name__])
    return {
        "files": {
            path.relative_to(book.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in _files(book)
        }
        | _documented(book)
        | {_place(book, chapter): digest(chapter.notebook) for chapter in task.chosen}
        | {"_toc.yml": digest(_toc(task))},
        "runs": {name: [run["key"], run["date"], run["profile"]] for name, run in runs.items()},
        "modules": {
            k: v
            for k, v in modules.items()
            # The explorers' scripts are files.
            if re.match(r"implreg(_book[./]press|(_book)?[./]widgets)\b", k)
        },
        "versions": versions(()) | required(*BUILDERS),
        "address": asdict(task.address),
    }


def site_reasons(task: Task, inputs: Inputs, running: Sequence[str]) -> list[str]:
    """Return why the site must be built, in plain words; nothing if it is made from `inputs`.

    Args:
        task: what is made, and where.
        inputs: what it is to be made from.
        running: chapters that will run before, whose runs are not in `inputs`.
    """
    if task.force:
        return ["--force was given"]
    if not (task.site / "index.html").is_file():
        return ["it is not there"]
    try:
        old = json.loads((task.site / MADE_FROM).read_bytes())
    except (FileNotFoundError, ValueError):
        old = {}
    if old.keys() != inputs.keys():
        return ["it does not say what it is made from"]
    others = [name for name, run in inputs["runs"].items() if old["runs"].get(name, run) != run]
    return [
        *([f"{listed(running)} will run"] if running else []),
        *([f"it holds another run of {listed(others)}"] if others else []),
        *changes(old["files"], inputs["files"]),
        *changes(old["modules"], inputs["modules"]),
        *other_versions(old["versions"], inputs["versions"]),
        *changes(old["address"], inputs["address"], "address of the"),
    ]


def build_site(task: Task, outcomes: Sequence[Outcome], inputs: Inputs) -> None:
    """Build the site of the finished chapters `outcomes`.

    The site replaces the one before only when it is whole, and remembers its `inputs`. A preview
    may refer to pages that it does not have.

    Raises:
        InputError: a figure of a chapter has no alternative text.
        SiteError: Jupyter Book found something wrong.
    """
    stage, log = task.build / "stage", task.build / "site.log"
    stage_book(task, outcomes, stage)
    _jupyter_book(stage, log, "html", strict=not task.preview)
    html = stage / "_build" / "html"
    start = yaml.safe_load((stage / "_toc.yml").read_text("utf-8"))["root"]
    _describe_start(html / "index.html", html / f"{start}.html")
    (html / MADE_FROM).write_text(json.dumps(inputs, indent=1), encoding="utf-8")
    swap(html, task.site)
    shutil.rmtree(stage)


def build_pdf(task: Task, outcomes: Sequence[Outcome]) -> Path:
    """Make the book of the finished chapters `outcomes` as one PDF and return that.

    Raises:
        SiteError: Jupyter Book or LaTeX found something wrong.
    """
    stage, log = task.build / "stage-pdf", task.build / "pdf.log"
    stage_book(task, outcomes, stage, printed=True)
    _jupyter_book(stage, log, "latex", strict=not task.preview)
    try:
        done = set_latex(stage / "_build" / "latex", log)
    except subprocess.CalledProcessError as error:
        raise SiteError(f"LaTeX failed; all that it said is in {log}.") from error
    pdf = prepare_folder(task.site.parent) / done.name
    os.replace(done, pdf)
    shutil.rmtree(stage)
    return pdf


def _jupyter_book(stage: Path, log: Path, builder: str, *, strict: bool) -> None:
    """Let Jupyter Book make what `builder` is called of the staged book."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(stage.resolve()), "--builder", builder, "--all", "-q", *(STRICT * strict)]
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise SiteError(f"the site has problems, all of them in {log}:\n{_problems(log, stage)}")


def _describe_start(index: Path, start: Path) -> None:
    """Give the page that only sends readers on to `start` the description and card of that."""
    tags = re.findall(
        r'<meta (?:name|property)="(?:description|og:|twitter:)[^>]*>', start.read_text("utf-8")
    )
    up = "../" * (len(start.relative_to(index.parent).parts) - 1)
    head = "\n".join(tag.replace(f'content="{up}_static/', 'content="_static/') for tag in tags)
    index.write_text(f"{index.read_text('utf-8').rstrip()}\n{head}\n", encoding="utf-8")


def stage_book(
    task: Task, outcomes: Sequence[Outcome], stage: Path, *, printed: bool = False
) -> None:
    """Write into the folder `stage` all that Jupyter Book needs: chapters, pages and settings.

    What is to be `printed` has no folded code and nothing to download.
    """
    book, address = task.book, task.address
    shutil.rmtree(stage, ignore_errors=True)
    for path in _files(book):
        copy = stage / path.relative_to(book.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    config = yaml.safe_dump(with_address(book.config, address), sort_keys=False)
    texts = {"_config.yml": config, "_toc.yml": _toc(task)}
    if printed:
        front = f"{MADE}/front"
        title = f"# {book.config.get('title', 'Book')}\n"
        texts |= {"_toc.yml": toc_for_print(_toc(task), front), f"{front}.md": title}
    pages, order = [], list(book.chapters)
    for outcome in sorted(outcomes, key=lambda outcome: order.index(outcome.chapter.name)):
        assert outcome.run is not None
        executed = nbformat.reads(outcome.text, as_version=4)
        staged = stage_chapter(outcome.chapter, executed)
        explorers.write_scripts(outcome.chapter.name, executed, stage)
        page = Page(outcome.chapter, executed, staged, outcome.run)
        pages.append(page)
        place = Path(_place(book, page.chapter))
        shown = for_print(staged) if printed else complete(page, address)
        for folder, notebook in (
            (place.parent, shown), (WRITTEN, page.chapter.notebook), (RAN, executed),
        ):  # fmt: skip
            nbformat.write(notebook, prepare_folder(stage / folder) / place.name)
    cff = book.root / BESIDE[0]
    texts |= made(pages, cff.read_text("utf-8") if cff.is_file() else None, address)
    for name, text in texts.items():
        prepare_folder((stage / name).parent)
        (stage / name).write_text(text, encoding="utf-8")
    if picture := first_picture([page.staged for page in pages]):
        card = draw_card(book.config.get("title", ""), book.config.get("author", ""), picture)
        (prepare_folder(stage / ASSETS) / CARD).write_bytes(card)


def _files(book: Book) -> list[Path]:
    """Return the settings, pages and assets of the book: its files that are no notebooks."""
    top = [book.root / name for name in ("_config.yml", *BESIDE)]
    return [path for path in top if path.is_file()] + sorted(
        path
        for path in (book.root / "book").rglob("*")
        if path.is_file()
        and path.suffix not in (".ipynb", ".toml")
        and not NO_PAGES & set(path.parts)
    )


def _documented(book: Book) -> dict[str, str]:
    """Hashes of the instrument's sources, whose docstrings are the pages of the reference."""
    if not any(page.startswith(REFERENCE) for page in book.pages):
        return {}
    home = Path(implreg.__file__).parent
    return {
        path.relative_to(home.parent).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*.py")
    }


def _place(book: Book, chapter: Chapter) -> str:
    return chapter.source.relative_to(book.root).as_posix()


def _toc(task: Task) -> str:
    if not task.preview:
        return (task.book.root / "_toc.yml").read_text("utf-8")
    chapters = [_place(task.book, chapter).removesuffix(".ipynb") for chapter in task.chosen]
    first, *others = chapters + task.book.pages
    toc: dict[str, Any] = {"format": "jb-book", "root": first}
    if others:
        toc["chapters"] = [{"file": entry} for entry in others]
    return yaml.safe_dump(toc)


def _problems(log: Path, stage: Path) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8")).splitlines()
    found = [line for line in lines if re.search("WARNING|ERROR|CRITICAL|Error:", line)]
    shown = [line.replace(f"{stage.resolve()}{os.sep}", "") for line in found or lines[-5:]]
    return "\n".join(f"  {line}" for line in shown[:PROBLEMS_SHOWN])


def swap(new: Path, target: Path) -> None:
    """Put the folder `new` in the place of `target`."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)
