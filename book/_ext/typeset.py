"""Sphinx extension: set all formulas when the site is built, by KaTeX, as HTML and as MathML.

A page then needs no script for its mathematics, shows it at once, and screen readers get MathML.
KaTeX runs in `mini-racer`, V8 as a Python wheel, so that nobody has to install Node. Its stylesheet
and fonts are in _assets/katex; `lean_pages` loads them.
"""

from functools import cache
from html import escape
from pathlib import Path

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

KATEX = Path(__file__).parents[1] / "_assets" / "katex"
FORMULA = "<!--formula-->", "<!--/formula-->"  # before and after each, for who looks for them
# A refusal comes back as a value, for an exception in mini-racer prints the whole library.
SCRIPT = """
function set(latex, displayMode) {
  try {
    return [katex.renderToString(latex, {displayMode, output: "htmlAndMathml"}), null];
  } catch (error) {
    return [null, error.rawMessage ?? String(error)];
  }
}
"""

logger = logging.getLogger(__name__)


@cache
def _engine() -> MiniRacer:
    engine = MiniRacer()
    engine.eval((KATEX / "katex.min.js").read_text(encoding="utf-8") + SCRIPT)
    return engine


def _set(self: HTML5Translator, node: nodes.Element, *, display: bool) -> str:
    """Return a formula as HTML; one that cannot be set fails the build once all are tried."""
    latex = node.astext()
    html, problem = _engine().call("set", latex, display)
    if problem is None:
        return html.join(FORMULA)
    where = (self.builder.current_docname, node.line)  # type: ignore[attr-defined]
    logger.error("KaTeX cannot set the formula %r: %s", latex, problem, location=where)
    self.builder.app.statuscode = 1
    return escape(latex)


def _inline(self: HTML5Translator, node: nodes.Element) -> None:
    formula = _set(self, node, display=False)
    self.body.append(self.starttag(node, "span", "", CLASS="math") + formula + "</span>")
    raise nodes.SkipNode


def _display(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "div", "", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(_set(self, node, display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Make this the way in which Sphinx writes formulas into HTML."""
    app.add_html_math_renderer("katex", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
