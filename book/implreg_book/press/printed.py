"""The book as one PDF: Jupyter Book writes LaTeX, and xelatex sets it."""

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import yaml
from bs4 import BeautifulSoup

from implreg.errors import InputError
from implreg_book.press.provenance import table

PROGRAMS = ("xelatex", "latexmk")
TARGET = "book"  # of the LaTeX file, see latex_documents in _config.yml
# Rows of a table. One of up to 30 must fit on a page, rows of four lines each too, and columns of a
# longer one do not wrap.
ROWS = 12
# MathJax knows this package; its fonts are half a gigabyte, and other letters will do.
BBM = "\\ProvidesPackage{bbm}\n\\providecommand{\\mathbbm}[1]{\\mathbb{#1}}\n"
HIDDEN = {"hide-input": "remove-input", "hide-cell": "remove-cell", "hide-output": "remove-output"}


def check_latex() -> None:
    """Raise `InputError` if a program that makes the PDF is not installed."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise InputError(
            f"--pdf needs xelatex and latexmk, and {' and '.join(missing)} cannot be found; "
            f"install TeX Live, on Debian: apt-get install texlive-xetex texlive-latex-extra "
            f"texlive-fonts-recommended fonts-freefont-otf latexmk."
        )


def for_print(staged: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a page for print: without folded code, with tables that break and wrap.

    HTML means nothing to LaTeX, and a table as plain text is wider than the page.
    """
    page: nbformat.NotebookNode = nbformat.from_dict(staged)
    cells = []
    for cell in page.cells:
        cells.append(cell)
        tags = cell.metadata.get("tags", [])
        cell.metadata["tags"] = [HIDDEN.get(tag, tag) for tag in tags]
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "hide-input" in tags and "caption" in figure:
            figure["caption"] = figure.caption.replace("Made by the code cell above in", "Made by")
        for number, output in enumerate(cell.get("outputs", [])):
            html = "".join(output.get("data", {}).get("text/html", ""))
            if "<table" in html and not {"image/png", "text/markdown"} & output.data.keys():
                output.data = {}
                own = f"{cell.id[:50]}-table-{number}"
                cells.append(nbformat.v4.new_markdown_cell(tables(html), id=own))
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    page.cells = cells
    return page


def tables(html: str) -> str:
    r"""Return the tables in `html` in MyST markdown.

    >>> print(tables("<table><tr><th>a_b</th></tr><tr><td>1</td></tr></table>"))
    | a\_b |
    | --- |
    | 1 |
    """
    parts: list[list[str]] = []
    for found in BeautifulSoup(html, "html.parser").find_all("table"):
        rows = [
            [_escaped(cell.get_text(" ", strip=True)) for cell in row.find_all(["th", "td"])]
            for row in found.find_all("tr")
        ]
        width = max(map(len, rows))
        head, *body = [row + [""] * (width - len(row)) for row in rows]
        parts += [table(head, body[i : i + ROWS]) for i in range(0, len(body), ROWS)]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _escaped(text: str) -> str:
    # An interval stays on one line.
    text = re.sub(r"\[[^\]]*\]", lambda m: m[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return re.sub(r"([\\`*_{}\[\]<>#$~])", r"\\\1", re.sub(r"[ \n]+", " ", text))


def toc_for_print(toc: str, front: str) -> str:
    """Return a table of contents whose first page is a chapter like the others.

    In print the content of the first page stands before all chapters, without its title; that place
    is for `front`.
    """
    entries = yaml.safe_load(toc)
    group = entries["parts"][0] if "parts" in entries else entries
    group["chapters"] = [{"file": entries["root"]}, *group.get("chapters", [])]
    return yaml.safe_dump(entries | {"root": front}, sort_keys=False)


def set_latex(latex: Path, log: Path) -> Path:
    """Set the LaTeX file of Jupyter Book in the folder `latex` and return the PDF.

    Raises:
        subprocess.CalledProcessError: LaTeX failed; `log` says why.
    """
    (latex / "bbm.sty").write_text(BBM, encoding="utf-8")
    command = ["latexmk", "-xelatex", "-interaction=nonstopmode", "-halt-on-error", f"{TARGET}.tex"]
    with log.open("a", encoding="utf-8") as file:
        subprocess.run(command, cwd=latex, stdout=file, stderr=subprocess.STDOUT, check=True)
    return latex / f"{TARGET}.pdf"
