"""Settings of all tests."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from _experiment import Log
from hypothesis import settings

from implreg.settings import CHECKPOINTS, RECORD, RESULTS, SCHEDULER, STORE

# How long an example takes says nothing about its result, and machines differ.
settings.register_profile("implreg", deadline=None)
settings.load_profile("implreg")


@pytest.fixture(autouse=True)
def no_store_of_another_test():
    """Commands set these variables for the rest of their process, which a test is not."""
    for name in (STORE, SCHEDULER, RECORD, CHECKPOINTS):
        os.environ.pop(name, None)
    os.environ[RESULTS] = ""  # runs are to run
    yield
    for name in (STORE, SCHEDULER, RECORD, CHECKPOINTS):
        os.environ.pop(name, None)


@pytest.fixture(scope="module")
def one_thread():
    """For small matrices, where several threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The site's folder: the book in its smoke profile, or what IMPLREG_SITE names."""
    if "IMPLREG_SITE" in os.environ:
        return Path(os.environ["IMPLREG_SITE"])
    build = tmp_path_factory.mktemp("build")
    command = [sys.executable, "-m", "implreg", "book", "--profile", "smoke", "--build-dir", build]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return build / "html"


# Of the tests of grids


@pytest.fixture
def log(tmp_path):
    """Where the runs of `_experiment` write that they began."""
    return Log(str(tmp_path / "log"))


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


# Of the tests in a browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium, one for all tests."""
    pytest.importorskip("selenium", reason="a browser needs the extra test")
    import _browser

    with _browser.chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module")
def script(browser, tmp_path_factory):
    """Call functions of the JavaScript modules: script("tracer.trace(a, b, c)", a=..., ...)."""
    from _browser import LIBRARY

    from implreg.widgets.bundle import modules, scope

    page = tmp_path_factory.mktemp("library") / "index.html"
    held = ", ".join(f"{name}: {scope(name)}" for name in LIBRARY)
    page.write_text(
        f"<!doctype html><meta charset='utf-8'><script>window.library = (() => "
        f"{{ {modules(*LIBRARY)} return {{ {held} }}; }})();</script>",
        encoding="utf-8",
    )
    browser.get(page.as_uri())

    def call(expression, **arguments):
        assert browser.current_url == page.as_uri() or browser.get(page.as_uri()) is None
        names = ", ".join(arguments)
        plain = (
            "JSON.parse(JSON.stringify(value, (_, x) => ArrayBuffer.isView(x) ? Array.from(x) "
            ": Number.isNaN(x) ? null : x))"
        )
        source = (
            f"const {{ {', '.join(LIBRARY)} }} = window.library;"
            f"const value = (({names}) => {expression})(...arguments); return {plain};"
        )
        return browser.execute_script(source, *arguments.values())

    return call


@pytest.fixture
def show(browser, tmp_path):
    """Open an explorer on a page of its own; afterwards the console must hold no error."""
    import _browser

    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", _browser.DESKTOP)

    def open_page(explorer, **changes):
        browser.get_log("browser")
        _browser.open_explorer(browser, explorer, tmp_path, **changes)

    yield open_page
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
