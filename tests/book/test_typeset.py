"""Formulas are set when the site is built."""

import io
from pathlib import Path

import pytest

pytest.importorskip("py_mini_racer", reason="the book's tests need its extra: pip install .[book]")

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

EXTENSIONS = Path(__file__).parents[2] / "book" / "_ext"


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build pages of MyST markdown, and return the exit status and what Sphinx said."""
    monkeypatch.syspath_prepend(str(EXTENSIONS))

    def run(**pages):
        for name, text in pages.items():
            (tmp_path / f"{name}.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
        said = io.StringIO()
        options = {
            "extensions": ["myst_parser", "typeset"],
            "html_math_renderer": "katex",
            "myst_enable_extensions": ["amsmath", "dollarmath"],
            "root_doc": next(iter(pages)),
            "exclude_patterns": ["out"],
        }
        with docutils_namespace():
            app = Sphinx(
                tmp_path, None, tmp_path / "out", tmp_path / "out", "html", options, None, said
            )
            app.build()
        return app.statuscode, said.getvalue()

    run.page = lambda name: (tmp_path / "out" / f"{name}.html").read_text("utf-8")
    return run


def test_a_formula_becomes_html_and_mathml_and_keeps_number_and_label(build):
    status, said = build(
        one="About $\\sqrt{x}$, see {eq}`two`.\n\n$$\na < b\n$$ (two)\n",
        three="\\begin{align*}\na &= b \\\\\n&= c\n\\end{align*}\n",
    )
    assert status == 0 and "ERROR" not in said
    page = build.page("one")
    assert page.count("<math ") == 2 == page.count('class="katex-html"')
    assert 'id="equation-two"' in page and '<span class="eqno">(1)' in page
    assert "\\(" not in page
    assert build.page("three").count("<mtr>") == 2


def test_a_formula_that_cannot_be_set_fails_the_build_with_page_and_formula(build):
    status, said = build(
        good="$x$ and [](bad.md)", bad="Here: $\\frac{1}{n}$, $\\nonsense{n}$, $\\frac{1$."
    )
    assert status == 1
    errors = [line for line in said.splitlines() if "ERROR" in line]
    assert len(errors) == 2
    assert "bad.md" in errors[0] and "nonsense{n}" in errors[0]
    assert "Undefined control sequence" in errors[0]
