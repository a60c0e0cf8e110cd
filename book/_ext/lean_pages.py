"""Sphinx extension: a page loads what it needs, once, and is whole before any script has run.

Jupyter Book and its theme load every script and stylesheet with every page, some twice, and leave
folding to a script and the sizes of pictures to the browser.
"""

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from typeset import FORMULA

# What comes with every page and no page of this book needs; implreg.css has the look of proofs.
DROPPED = ("sphinx-thebe.css", "togglebutton.css", "togglebutton.js", "proof.css", "exercise.css")
# Settings of dropped scripts, and of a search while typing, which this book does not have.
OBSOLETE = ("DOCUMENTATION_OPTIONS.", "let toggle", "var togglebuttonSelector")
# What a page needs if this is in it.
NEEDED_FOR = {
    "clipboard.min.js": 'class="highlight',
    "copybutton.js": 'class="highlight',
    "design-tabs.js": "sd-tab-set",
    "sphinx-design.min.css": 'class="sd-',
}
# These become one file, book.css: a phone waits for each file anew. Later rules win.
BUNDLE = (
    "basic.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "copybutton.css",
    "mystnb.*.css",
    "katex/katex.min.css",
    "implreg.css",
    "icons.css",
)

# Code and formulas are most of a page's elements and stay as they are: they are set aside
# meanwhile, a character of Unicode's private use in their place.
ASIDE = re.compile(rf"<pre>.*?</pre>|{FORMULA[0]}.*?{FORMULA[1]}", re.DOTALL)
PLACE = "\ue000"


def _trim(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Choose scripts and stylesheets, and finish the page's text."""
    body = context.get("body", "")

    def needed(file: Any) -> bool:
        name = Path(file.filename or "").name
        inline = str(file.attributes.get("body", ""))
        marks = [mark in body for start, mark in NEEDED_FOR.items() if name.startswith(start)]
        bundled = any(fnmatch(name, Path(sheet).name) for sheet in BUNDLE)
        dropped = name in DROPPED or inline.startswith(OBSOLETE)
        return not bundled and not dropped and all(marks)

    context["css_files"] = [file for file in context["css_files"] if needed(file)]
    scripts = {(s.filename, s.attributes.get("body")): s for s in context["script_files"]}.values()
    # The search page has scripts of its own that run at once and need the others.
    later = {} if page == "search" else {"defer": "defer"}
    context["script_files"] = [
        type(script)(script.filename, priority=script.priority, **{**script.attributes, **later})
        for script in scripts
        if needed(script)
    ]
    if body:
        context["body"] = _finish(app, body)


def _finish(app: Sphinx, body: str) -> str:
    """Fold without a script, keep a place for each picture, and mend what axe-core finds."""
    aside = iter(ASIDE.findall(body))
    page = BeautifulSoup(ASIDE.sub(PLACE, body), "html.parser")
    for block in page.select("div.admonition.dropdown"):
        block.name = "details"
        title = block.select_one(".admonition-title")
        title.name = "summary"
        for link in title.select("a"):  # a click there folds
            link.unwrap()
    for summary in page.select("summary[aria-label]"):  # whose own words say more
        del summary["aria-label"]
    for cell in page.select("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
    for part in page.select("dt.sig dl, dt.sig dd"):  # a list without terms
        part["class"] = "arguments" if part.name == "dl" else "argument"
        part.name = "span"
    for entry in page.select("div.citation, div.citation-list"):  # roles no longer in WAI-ARIA
        del entry["role"]
    sources = {name: source for source, name in app.builder.images.items()}
    for index, picture in enumerate(page.select("img")):
        source = sources.get(Path(picture["src"]).name)
        if source:
            picture.attrs.update(_size(Path(app.srcdir, source)))
        if index:  # the first may be in sight at once
            picture["loading"] = "lazy"
    for table in page.select("table"):
        table.wrap(page.new_tag("div", attrs={"class": "wide"}))
    return re.sub(PLACE, lambda _: next(aside), str(page))


def _size(picture: Path) -> dict[str, int]:
    """Width and height of an SVG file that matplotlib drew, in CSS pixels."""
    if picture.suffix != ".svg":
        return {}
    head = picture.read_text(encoding="utf-8").partition("<title>")[0]
    points = dict(re.findall(r' (width|height)="([\d.]+)pt"', head))
    return {side: round(float(value) * 96 / 72) for side, value in points.items()}


def _bundle(app: Sphinx, exception: Exception | None) -> None:
    """Join the stylesheets, without FontAwesome, which is a third of the theme's."""
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    parts = []
    for name in BUNDLE:
        (sheet,) = static.glob(name)
        text = sheet.read_text(encoding="utf-8").removeprefix('@charset "UTF-8";')
        text = re.sub(r"/\*# sourceMappingURL=.*?\*/", "", text)
        parts.append(text.replace("url(fonts/", "url(katex/fonts/"))
    css = '@charset "UTF-8";\n' + "\n".join(parts)
    start, end = css.find("/*!\n * Font Awesome"), css.find("html{--pst-header-height")
    if not 0 < start < end:
        raise ExtensionError(
            "FontAwesome must be one block of pydata-sphinx-theme.css, before the theme's own "
            "rules, but is not in this version of the theme; adapt lean_pages.py to it."
        )
    (static / "book.css").write_text(css[:start] + css[end:], encoding="utf-8")
    shutil.rmtree(static / "vendor")
    for script in (static / "scripts").glob("fontawesome.js*"):
        script.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx, after the extensions of Jupyter Book itself."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]
    app.connect("html-page-context", _trim, priority=900)
    app.connect("build-finished", _bundle, priority=900)  # the theme writes pygments.css late
    return {"parallel_read_safe": True, "parallel_write_safe": True}
