"""Panels and explorers in a real JupyterLab, moved by mouse and keyboard."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from _browser import PATIENCE, chromium

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install .[test]")

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
PANEL = ".implreg-panel"
# A notebook without the cells that this is not about, which would take long.
KEPT = {
    "width": {"parameters", "check-parameters", "panel"},
    "start": {"parameters", "check-parameters", "panel"},
    "paper-in-ten-minutes": {"parameters", "check-parameters", "explorer", "panel"},
}


@contextmanager
def server(folder):
    """JupyterLab on a copy of the chapters, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {
        f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    own |= {
        f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")
    }
    path = os.pathsep.join([str(ROOT), str(ROOT / "book"), os.environ.get("PYTHONPATH", "")])
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"]
    options += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    options += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url="]
    env = os.environ | own | {"PYTHONPATH": path, "IMPLREG_STORE": str(folder / "runs")}
    env.pop("IMPLREG_RESULTS", None)  # those of the book
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=folder / "book",
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "book").mkdir()
    shutil.copy(ROOT / "_toc.yml", folder)
    for name, kept in KEPT.items():
        notebook = json.loads((ROOT / "book" / f"{name}.ipynb").read_text("utf-8"))
        notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] in kept]
        (folder / "book" / f"{name}.ipynb").write_text(json.dumps(notebook), "utf-8")
    with server(folder) as address, chromium(folder / "profile") as browser:
        browser.set_window_size(1400, 1100)
        yield Lab(browser, address)


class Lab:
    """A browser that shows JupyterLab."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def wait(self, condition):
        stale = [StaleElementReferenceException]  # JupyterLab draws again when it likes
        waiting = WebDriverWait(self.browser, PATIENCE, 0.2, ignored_exceptions=stale)
        return waiting.until(lambda _: condition())

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.wait(lambda: next(iter(self.all(selector)), None))

    def open(self, name):
        """Open a notebook and run all its cells."""

        def loaded():
            self.browser.get(f"{self.address}/lab/tree/{name}.ipynb?reset")
            return True

        self.wait(lambda: _answers(loaded))
        self.wait(lambda: "Idle" in self.one("#jp-main-statusbar").text)
        self.one(".jp-Notebook .jp-CodeCell")
        run = "return jupyterapp.commands.execute('runmenu:run-all').then(() => true)"
        self.wait(lambda: self.browser.execute_script(run))

    def text(self, selector):
        return " ".join(x.text for x in self.all(selector))

    def do(self, action):
        """Do what finds its element anew, as JupyterLab may just have drawn again."""
        self.wait(lambda: (action(), True)[1])

    def row(self, kind, name):
        """The control of a parameter."""
        rows = self.all(f"{PANEL} .widget-{kind}")
        return next(row for row in rows if name in row.text.split())

    def handle(self, name):
        return self.row("hslider", name).find_element(By.CSS_SELECTOR, ".noUi-handle")

    def value(self, name):
        return int(self.row("hslider", name).text.split()[-1].replace(",", ""))

    def cells(self):
        """How many cells the notebook has, those out of sight included."""
        count = "return jupyterapp.shell.currentWidget.content.model.cells.length"
        return self.browser.execute_script(count)


def _answers(call):
    try:
        return call()
    except Exception:  # the server is not there yet
        return False


def test_a_panel_moves_by_keyboard_and_mouse_and_draws(lab):
    lab.open("width")
    lab.one(f"{PANEL} .widget-button")
    cells, before = lab.cells(), lab.value("seeds")
    view = "arguments[0].scrollIntoView({block: 'center'})"
    lab.do(lambda: lab.browser.execute_script(view, lab.handle("seeds")))
    lab.do(lambda: lab.handle("seeds").click())
    lab.do(lambda: lab.handle("seeds").send_keys(Keys.ARROW_LEFT))
    lab.wait(lambda: lab.value("seeds") < before)
    # The cells stay: these are not JupyterLab's commands.
    lab.do(lambda: lab.handle("seeds").send_keys("dd"))
    assert lab.cells() == cells
    # Fewer seeds of the book are all stored, and so drawn without being asked.
    lab.wait(lambda: "Drawn with what the controls say" in lab.text(PANEL))
    assert "the whole path, no" in lab.text(PANEL)
    pictures = lab.all(f"{PANEL} img")
    assert len(pictures) == 3 and all(x.get_attribute("alt") for x in pictures)
    # By mouse to the right, which costs and so waits to be asked.
    drag = ActionChains(lab.browser).drag_and_drop_by_offset
    lab.do(lambda: lab.browser.execute_script(view, lab.handle("seeds")))
    lab.do(lambda: drag(lab.handle("seeds"), 50, 0).perform())
    lab.wait(lambda: "of CPU time" in lab.text(PANEL))
    assert re.search(r"take about [\d.,]+ (h|min|s)", lab.text(PANEL))
    assert "(your own)" in lab.one(f"{PANEL} select").text


def test_what_the_chapter_cannot_have_is_told_in_the_panel(lab):
    lab.open("start")
    lab.one(f"{PANEL} .widget-button")
    typed = (Keys.CONTROL, "a", Keys.CONTROL, "-3, 5", Keys.ENTER)
    box = lab.wait(lambda: lab.row("text", "scales").find_element(By.CSS_SELECTOR, "input"))
    box.send_keys(*typed)
    lab.wait(lambda: "scales of chapter start must be 1 to 6 numbers" in lab.text(PANEL))


def test_an_explorer_keeps_its_keys_and_tells_python(lab):
    lab.open("paper-in-ten-minutes")
    point = ".implreg-explorer [role=slider]"
    cells, before = lab.cells(), lab.one(point).get_attribute("aria-valuetext")
    view = "arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()"
    lab.do(lambda: lab.browser.execute_script(view, lab.one(point)))
    lab.do(lambda: lab.one(point).send_keys(Keys.ARROW_RIGHT))
    lab.wait(lambda: lab.one(point).get_attribute("aria-valuetext") != before)
    lab.do(lambda: lab.one(point).send_keys("dd"))
    assert lab.cells() == cells
