"""Settings of all tests."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# For small matrices, where several threads would only wait for one another; processes that tests
# start inherit it. What is about threads says how many it has.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
import pytest
from _experiment import Log
from _processes import alive, wait_until
from filelock import FileLock
from hypothesis import settings
from implreg_book.settings import CHECKPOINTS, RECORD, RESULTS, SCHEDULER, STORE

ROOT = Path(__file__).resolve().parents[1]
HANGS = 3600  # seconds after which what is still not there will never be

# How long an example takes says nothing about its result, and machines differ.
settings.register_profile("implreg", deadline=None)
settings.load_profile("implreg")


def pytest_collection_modifyitems(items):
    """Mark what `make check` leaves out; the files that wait for the site come last."""
    files = {"browser": set(), "pages": set()}
    for item in items:
        for fixture, marker in (("browser", "browser"), ("smoke_site", "pages")):
            if fixture in item.fixturenames:
                item.add_marker(marker)
                files[marker].add(item.path)
    items.sort(key=lambda item: (item.path in files["pages"], item.path not in files["browser"]))


@pytest.fixture(autouse=True)
def no_store_of_another_test():
    """Commands set these variables for the rest of their process, which a test is not."""
    for name in (STORE, SCHEDULER, RECORD, CHECKPOINTS):
        os.environ.pop(name, None)
    os.environ[RESULTS] = ""  # runs are to run
    yield
    for name in (STORE, SCHEDULER, RECORD, CHECKPOINTS):
        os.environ.pop(name, None)


# The book itself


@pytest.fixture(scope="session", autouse=True)
def smoke_build(request, tmp_path_factory):
    """The book in its smoke profile, made while other tests run: its folder and the process.

    It begins with the first test, if any will want it, and is one for all workers of pytest-xdist.
    """
    wanted = any("smoke_site" in item.fixturenames for item in request.session.items)
    if not wanted or "IMPLREG_SITE" in os.environ:
        yield None
        return
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    build, number, mine = shared / "smoke", shared / "smoke.pid", None
    with FileLock(shared / "smoke.lock"):
        if not number.exists():
            command = [sys.executable, "-m", "implreg", "book", "--profile", "smoke"]
            with (shared / "smoke.log").open("w") as log:
                mine = subprocess.Popen(
                    [*command, "--build-dir", build], cwd=ROOT, stdout=log, stderr=log
                )
            number.write_text(str(mine.pid))
        try:
            process = psutil.Process(int(number.read_text()))
        except psutil.NoSuchProcess:  # it has ended already
            process = None
    yield build, process
    if mine is not None:
        if request.session.shouldfail or request.session.shouldstop:
            mine.terminate()
        mine.wait(HANGS)  # another worker may want it still


@pytest.fixture(scope="session")
def smoke_site(smoke_build):
    """The site's folder: the book in its smoke profile, or what IMPLREG_SITE names."""
    if smoke_build is None:
        return Path(os.environ["IMPLREG_SITE"])
    build, process = smoke_build
    wait_until(lambda: not alive([process] if process else []), HANGS)
    assert (build / "html" / "index.html").is_file(), build.with_suffix(".log").read_text()
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
    from implreg_book.widgets.scripts import JS

    from implreg.widgets.bundle import modules, scope

    page = tmp_path_factory.mktemp("library") / "index.html"
    held = ", ".join(f"{name}: {scope(name)}" for name in LIBRARY)
    page.write_text(
        f"<!doctype html><meta charset='utf-8'><script>window.library = (() => "
        f"{{ {modules(*LIBRARY, folder=JS)} return {{ {held} }}; }})();</script>",
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
