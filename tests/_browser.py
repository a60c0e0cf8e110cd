"""Chromium for tests: started as the tests of the site and of the explorers need it."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "selenium", reason="tests in a browser need the extra test: pip install .[test]"
)

from selenium import webdriver

from implreg.widgets.bundle import page_script
from implreg.widgets.explorer import PAGE_TYPE, Explorer

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def binary(*names: str) -> str:
    """The first of these programs that is here; without one the test is skipped, or fails in CI."""
    for name in names:
        if path := shutil.which(name):
            return path
    message = (
        f"no {names[0]} here; the tests of the site need Chromium and its driver, on Debian: "
        f"apt-get install chromium chromium-driver"
    )
    if os.environ.get("IMPLREG_REQUIRE_BROWSER") == "1":
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser that keeps its profile in a folder and logs console and requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = binary("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=binary("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def explorer_page(explorer: Explorer, folder: Path, **changes: Any) -> str:
    """Write a page with an explorer as the book has it, and return its address.

    Args:
        explorer: the explorer.
        folder: for the files; they are opened from disk, as a reader may.
        changes: of its state.
    """
    data, _ = explorer._repr_mimebundle_()
    page: Mapping[str, Any] = data[PAGE_TYPE]
    (folder / "explorer.js").write_text(page_script(page["explorer"]), encoding="utf-8")
    state = json.dumps({**page["state"], **changes})
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<body><div class="cell"><img alt="still" src="data:image/png;base64,'
        f'{data["image/png"]}"><script type="application/json" class="explorer-state" '
        f'data-explorer="{page["explorer"]}">{state}</script></div>'
        '<script defer src="explorer.js"></script></body></html>',
        encoding="utf-8",
    )
    return (folder / "index.html").as_uri()
