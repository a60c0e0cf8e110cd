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

from implreg.book.address import Address, with_address
from implreg.book.card import draw_card, first_picture
from implreg.book.chapters import Book, Chapter
from implreg.book.execute import Outcome, beside, write_notebook
from implreg.book.pages import MADE, RAN, WRITTEN, Page, complete, for_download, made, with_places
from implreg.book.plan import Run
from implreg.book.printed import for_print, set_latex, toc_for_print
from implreg.book.provenance import Inputs, digest, label, section
from implreg.book.why import changes, listed, other_versions
from implreg.dependencies import Sources, versions
from implreg.errors import InputError, prepare_folder

MADE_FROM = ".made-from.json"  # in the site's folder: its inputs
BESIDE = ("CITATION.cff", "CHANGELOG.md")  # files at the top of the project that pages show
ASSETS = "book/_assets"
CARD = "card.png"  # among the assets; book/_ext/page_meta.py tells of it
# A new release of one of these can change a page.
SITE_LIBRARIES = (
    "jupyter-book",
    "sphinx",
    "docutils",
    "jinja2",
    "pygments",
    "myst-nb",
    "myst-parser",
    "markdown-it-py",
    "mdit-py-plugins",
    "linkify-it-py",
    "sphinx-book-theme",
    "pydata-sphinx-theme",
    "accessible-pygments",
    "sphinx-comments",
    "sphinx-copybutton",
    "sphinx-design",
    "sphinx-exercise",
    "sphinx-external-toc",
    "sphinx-jupyterbook-latex",
    "sphinx-multitoc-numbering",
    "sphinx-proof",
    "sphinx-thebe",
    "sphinx-togglebutton",
    "sphinxcontrib-bibtex",
    "pybtex",
)
# For machines, not for readers: Jupyter Book warns about any type that it cannot show, and a widget
# would ask for a kernel.
FOR_MACHINES = ("application/vnd.implreg.", "application/vnd.jupyter.widget-view")
STRICT = ("-W", "--keep-going", "-n")
PROBLEMS_SHOWN = 10


class SiteError(RuntimeError):
    """A site that could not be built; the message says why and where the log is."""


def site_folder(build: Path, *, preview: bool) -> Path:
    """Return the folder of the site, or of the preview."""
    return build / "preview" / "html" if preview else build / "html"


def site_inputs(
    book: Book,
    chapters: Sequence[Chapter],
    runs: Mapping[str, Run],
    *,
    address: Address,
    preview: bool,
) -> Inputs:
    """Return all that the site of `chapters` is made from, as JSON can hold it.

    These are pages, assets and settings, the prose of the chapters and their `runs`, the modules
    of the pipeline, the versions of the libraries, and the `address` of repository and site.
    """
    modules = Sources().hashes([__name__])
    return {
        "files": {
            path.relative_to(book.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in _files(book)
        }
        | {_place(book, chapter): digest(chapter.notebook) for chapter in chapters}
        | {"_toc.yml": digest(_toc(book, chapters, preview))},
        "runs": {name: [run["key"], run["date"], run["profile"]] for name, run in runs.items()},
        "modules": {
            k: v
            for k, v in modules.items()
            if re.match(r"implreg[./](book|widgets)\b", k)  # the explorers' scripts are files
        },
        "versions": versions(SITE_LIBRARIES),
        "address": asdict(address),
    }


def site_reasons(
    inputs: Inputs, build: Path, *, preview: bool, force: bool, running: Sequence[str]
) -> list[str]:
    """Return why the site must be built, in plain words; nothing if it is made from `inputs`.

    Args:
        inputs: what it is to be made from.
        build: folder of all results.
        preview: whether it is the preview.
        force: whether it must be built in any case.
        running: chapters that will run before, whose runs are not in `inputs`.
    """
    if force:
        return ["--force was given"]
    folder = site_folder(build, preview=preview)
    if not (folder / "index.html").is_file():
        return ["it is not there"]
    try:
        old = json.loads((folder / MADE_FROM).read_bytes())
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


def build_site(
    book: Book, outcomes: Sequence[Outcome], inputs: Inputs, build: Path, *, preview: bool
) -> None:
    """Build the site of the finished chapters `outcomes`.

    The site replaces the one before only when it is whole, and remembers its `inputs`. A `preview`
    has these chapters only, lies in a folder of its own, and may refer to pages that it does not
    have.

    Raises:
        InputError: a figure of a chapter has no alternative text.
        SiteError: Jupyter Book found something wrong.
    """
    stage, log = build / "stage", build / "site.log"
    address = Address(**inputs["address"])
    stage_book(book, outcomes, address, stage, preview=preview)
    _jupyter_book(stage, log, "html", strict=not preview)
    html = stage / "_build" / "html"
    start = yaml.safe_load((stage / "_toc.yml").read_text("utf-8"))["root"]
    _describe_start(html / "index.html", html / f"{start}.html")
    (html / MADE_FROM).write_text(json.dumps(inputs, indent=1), encoding="utf-8")
    swap(html, site_folder(build, preview=preview))
    shutil.rmtree(stage)


def build_pdf(
    book: Book, outcomes: Sequence[Outcome], address: Address, build: Path, *, preview: bool
) -> Path:
    """Make the book of the finished chapters `outcomes` as one PDF and return that.

    Raises:
        SiteError: Jupyter Book or LaTeX found something wrong.
    """
    stage, log = build / "stage-pdf", build / "pdf.log"
    stage_book(book, outcomes, address, stage, preview=preview, printed=True)
    _jupyter_book(stage, log, "latex", strict=not preview)
    try:
        done = set_latex(stage / "_build" / "latex", log)
    except subprocess.CalledProcessError as error:
        raise SiteError(f"LaTeX failed; all that it said is in {log}.") from error
    pdf = (build / "preview" if preview else build) / done.name
    prepare_folder(pdf.parent)
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
    book: Book,
    outcomes: Sequence[Outcome],
    address: Address,
    stage: Path,
    *,
    preview: bool,
    printed: bool = False,
) -> None:
    """Write into the folder `stage` all that Jupyter Book needs: chapters, pages and settings.

    What is to be `printed` has no folded code and nothing to download.
    """
    from implreg.book import explorers  # needs torch, which takes seconds to import

    shutil.rmtree(stage, ignore_errors=True)
    for path in _files(book):
        copy = stage / path.relative_to(book.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    config = yaml.safe_dump(with_address(book.config, address), sort_keys=False)
    toc = _toc(book, [outcome.chapter for outcome in outcomes], preview)
    texts = {"_config.yml": config, "_toc.yml": toc}
    if printed:
        front = f"{MADE}/front"
        title = f"# {book.config.get('title', 'Book')}\n"
        texts |= {"_toc.yml": toc_for_print(toc, front), f"{front}.md": title}
    pages = {}
    for outcome in outcomes:
        assert outcome.notebook is not None and outcome.run is not None
        executed = nbformat.read(outcome.notebook, as_version=4)
        staged = stage_chapter(outcome.chapter, executed)
        for cell in executed.cells:
            name = f"{outcome.chapter.name}-{cell.id}"
            explorers.write_scripts(cell.get("outputs", []), name, stage)
        page = Page(outcome.chapter, executed, staged, outcome.run)
        pages[outcome.chapter.name] = page
        for folder, notebook in (
            (
                Path(_place(book, page.chapter)).parent,
                for_print(with_places(staged)) if printed else complete(page, address),
            ),
            (WRITTEN, page.chapter.notebook),
            (RAN, for_download(executed)),
        ):
            file = prepare_folder(stage / folder) / page.chapter.source.name
            write_notebook(notebook, file)
    cff = book.root / BESIDE[0]
    in_order = [pages[name] for name in book.chapters if name in pages]
    texts |= made(in_order, cff.read_text("utf-8") if cff.is_file() else None, address)
    for name, text in texts.items():
        prepare_folder((stage / name).parent)
        (stage / name).write_text(text, encoding="utf-8")
    if picture := first_picture([page.staged for page in in_order]):
        card = draw_card(book.config.get("title", ""), book.config.get("author", ""), picture)
        (prepare_folder(stage / ASSETS) / CARD).write_bytes(card)


def stage_chapter(chapter: Chapter, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the page of `chapter`: its prose of today with the outputs of `executed`.

    Raises:
        InputError: a figure has no alternative text, or one cell has two figures.
    """
    from implreg.book import explorers  # needs torch, which takes seconds to import

    cells = []
    hiding: list[str] = []  # of the parameters, for what is injected behind them
    for today, ran in beside(chapter, executed):
        if today is None:
            assert ran is not None
            cell = nbformat.v4.new_code_cell(
                ran.source,
                id=ran.id,
                execution_count=ran.execution_count,
                metadata={"tags": [*ran.metadata.tags, *hiding]},
            )
        else:
            cell, hiding = nbformat.from_dict(today), _hiding(today)
            if ran is not None:
                cell.outputs = _for_readers(ran.outputs)
                cell.execution_count = ran.execution_count
                _stage_figure(chapter, cell)
        cells.append(cell)
        # A cell of its own, as the options of a figure hold for all outputs of a cell.
        if ran is not None:
            for html in explorers.mounts(ran.outputs, f"{chapter.name}-{cell.id}"):
                cells.append(nbformat.v4.new_markdown_cell(html, id=f"{cell.id}-live"))
    provenance = section(chapter, executed.metadata.implreg)
    cells.append(nbformat.v4.new_markdown_cell(provenance, id="provenance"))
    # Of the metadata, Jupyter Book needs the kernel alone; widgets have a still picture.
    metadata = {k: executed.metadata[k] for k in ("kernelspec", "language_info")}
    page: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    return page


def _hiding(cell: nbformat.NotebookNode) -> list[str]:
    """Tags by which Jupyter Book hides a cell."""
    return [tag for tag in cell.metadata.get("tags", []) if tag.startswith(("hide-", "remove-"))]


def _for_readers(outputs: Sequence[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Leave out progress bars and warnings, and what only machines read."""
    kept = [nbformat.from_dict(output) for output in outputs if output.get("name") != "stderr"]
    for output in kept:
        for kind in [k for k in output.get("data", {}) if k.startswith(FOR_MACHINES)]:
            del output.data[kind]
    return kept


def _stage_figure(chapter: Chapter, cell: nbformat.NotebookNode) -> None:
    """Move a figure's alternative text to where Jupyter Book looks; link its caption to the run."""
    pictures = [
        output
        for output in cell.outputs
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]
    if not pictures:
        return
    where = f"chapter {chapter.name}, cell {cell.id}"
    if len(pictures) > 1:
        raise InputError(
            f"{where}: a cell must show one figure, got {len(pictures)}; give each its own cell."
        )
    alt = pictures[0].metadata.get("implreg", {}).get("alt", "")
    if not alt.strip():
        raise InputError(
            f"{where}: a figure must have an alternative text, got none; end the cell with "
            f"implreg.figures.show(figure, alt=...)."
        )
    options: dict[str, Any] = cell.metadata.setdefault("mystnb", {})
    # The class tells the theme that the picture itself follows the reader's light or dark theme.
    options["image"] = {"classes": "dark-light", **options.get("image", {}), "alt": alt}
    figure = options.get("figure", {})
    if "caption" in figure:
        tags = cell.metadata.get("tags", [])
        hidden = "remove-input" in tags or "remove-cell" in tags
        run = f"{{ref}}`this run <{label(chapter)}>`"
        figure["caption"] += f" Made by {run}." if hidden else (
            f" Made by the code cell above in {run}."
        )  # fmt: skip


def _files(book: Book) -> list[Path]:
    """Return the settings, pages and assets of the book: its files that are no notebooks."""
    top = [book.root / name for name in ("_config.yml", *BESIDE)]
    return [path for path in top if path.is_file()] + sorted(
        path
        for path in (book.root / "book").rglob("*")
        if path.is_file()
        and path.suffix != ".ipynb"
        and not {".ipynb_checkpoints", "__pycache__"} & set(path.parts)
    )


def _place(book: Book, chapter: Chapter) -> str:
    return chapter.source.relative_to(book.root).as_posix()


def _toc(book: Book, chapters: Sequence[Chapter], preview: bool) -> str:
    if not preview:
        return (book.root / "_toc.yml").read_text("utf-8")
    entries = [_place(book, chapter).removesuffix(".ipynb") for chapter in chapters] + book.pages
    toc: dict[str, Any] = {"format": "jb-book", "root": entries[0]}
    if entries[1:]:
        toc["chapters"] = [{"file": entry} for entry in entries[1:]]
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
