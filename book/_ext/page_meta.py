"""Sphinx extension: what search engines, and cards that show a link, say of a page.

The description is the page's first paragraph as plain text, with the numbers of the run.
"""

import re
import textwrap
import unicodedata
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

CARD = "card.png"  # among the static files, if the build made one
LONGEST = 200  # characters; what is longer is cut wherever it is shown


def plain_mathematics(source: str) -> str:
    r"""Return a short formula as text.

    >>> plain_mathematics(r"\\sigma_\\mathrm{gap}"), plain_mathematics(r"\\sqrt M / 2")
    ('σ_gap', '√M / 2')
    """

    def symbol(match: re.Match[str]) -> str:
        try:
            return unicodedata.lookup(f"GREEK SMALL LETTER {match[1].upper()}")
        except KeyError:
            known = {"sqrt": "√", "times": "×", "cdot": "·", "le": "≤", "ge": "≥", "approx": "≈"}
            return known.get(match[1], "")

    text = re.sub(r"\\([A-Za-z]+)\s*", symbol, source)
    return re.sub(r"[\\{}$]", "", text).replace("-", "\N{MINUS SIGN}").strip()


def description(doctree: nodes.document) -> str:
    """Return the first paragraph of a page in at most `LONGEST` characters; empty without one."""
    for paragraph in doctree.findall(nodes.paragraph):
        if not isinstance(paragraph.parent, nodes.section | nodes.document):
            continue
        copy = paragraph.deepcopy()
        for formula in list(copy.findall(nodes.math)):
            formula.parent.replace(formula, nodes.Text(plain_mathematics(formula.astext())))
        return textwrap.shorten(copy.astext(), LONGEST, placeholder=" …")
    return ""


def _describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is None:
        return
    title = next(iter(doctree.findall(nodes.title)), nodes.title()).astext()
    about, base = description(doctree), app.config.html_baseurl
    tags = [
        ("name", "description", about),
        ("property", "og:type", "article"),
        ("property", "og:title", title),
        ("property", "og:site_name", app.config.html_title),
        ("property", "og:description", about),
    ]
    if base:
        tags.append(("property", "og:url", f"{base.rstrip('/')}/{page}.html"))
    if any((Path(app.confdir) / folder / CARD).is_file() for folder in app.config.html_static_path):
        # The protocol asks for a full address, which only a site that knows its own can give.
        place = f"_static/{CARD}"
        image = f"{base.rstrip('/')}/{place}" if base else context["pathto"](place, 1)
        tags += [
            ("property", "og:image", image),
            ("property", "og:image:width", "1200"),
            ("property", "og:image:height", "630"),
            ("name", "twitter:card", "summary_large_image"),
        ]
    context["metatags"] = context.get("metatags", "") + "".join(
        f'<meta {kind}="{name}" content="{escape(text)}" />\n' for kind, name, text in tags if text
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("html-page-context", _describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
