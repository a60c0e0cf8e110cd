"""Chromium for tests: started as the tests of the site and of the explorers need it."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "selenium", reason="tests in a browser need the extra test: pip install .[test]"
)

from implreg_book.press.explorers import state_script
from implreg_book.widgets.scripts import page_script
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait
from torch import nn

from implreg.widgets.explorer import PAGE_TYPE, Explorer

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
LIBRARY = (
    "tracer", "network", "measures", "theory", "format", "panel", "shallow", "correlated", "pair",
)  # fmt: skip
PATIENCE = 100  # seconds, below the 120 after which selenium gives up its driver
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
    driver.set_script_timeout(PATIENCE)
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
    page = {**page, "state": {**page["state"], **changes}}
    (folder / "state.js").write_text(state_script(page, "one"), encoding="utf-8")
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<body><div class="cell"><img alt="still" src="data:image/png;base64,'
        f'{data["image/png"]}"><div hidden class="explorer-state" data-state="one" '
        f'data-explorer="{page["explorer"]}"></div></div>'
        '<script defer src="state.js"></script><script defer src="explorer.js"></script>'
        "</body></html>",
        encoding="utf-8",
    )
    return (folder / "index.html").as_uri()


def open_explorer(browser, explorer, folder, **changes):
    """Open a page with an explorer, and wait until it is there; see `explorer_page`."""
    browser.get(explorer_page(explorer, folder, **changes))
    WebDriverWait(browser, PATIENCE).until(
        lambda driver: driver.find_elements("css selector", f".implreg-explorer.{explorer.name}")
    )


def mount_explorers(browser):
    """Go to every explorer of the page, so that it is mounted, and back to the top."""
    browser.execute_async_script(
        "const done = arguments[0], pause = () => new Promise((go) => setTimeout(go, 50));"
        "const mounted = () => document.querySelectorAll('.implreg-explorer').length;"
        "(async () => {"
        "  for (const [i, holder] of document.querySelectorAll('.explorer-state').entries()) {"
        "    let place = holder;"
        "    while (place && !place.querySelector('img')) place = place.previousElementSibling;"
        "    place.scrollIntoView({ behavior: 'instant' });"
        "    for (let waits = 0; mounted() <= i && waits < 1000; waits++) await pause();"
        "  }"
        "  window.scrollTo({ top: 0, behavior: 'instant' });"
        "  await pause();"
        "})().then(done);"
    )
    states = browser.find_elements("css selector", ".explorer-state")
    mounted = browser.find_elements("css selector", ".implreg-explorer")
    assert len(mounted) == len(states), f"{len(mounted)} of {len(states)} explorers are mounted"


def settle(browser):
    """Wait until what was asked for is drawn."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"
    )


def shown_numbers(browser, column=0):
    """The numbers in a column of an explorer's table; NaN for a dash."""
    settle(browser)
    cells = browser.find_elements("css selector", f".numbers tbody td:nth-of-type({column + 1})")
    return [as_number(cell.get_attribute("textContent")) for cell in cells]


def all_text(browser):
    """All that an explorer says, to the eye and in attributes."""
    settle(browser)
    return browser.execute_script(
        "const e = document.querySelector('.implreg-explorer'); return [e.textContent, "
        "...[...e.querySelectorAll('*')].flatMap((x) => [...x.attributes].map((a) => a.value))]"
        ".join(' ')"
    )


def assert_sound(browser):
    """An explorer draws something and shows nothing that is no number."""
    text = all_text(browser)
    assert not re.search(r"NaN|Infinity|undefined|\[object|null", text), text[:300]
    curve = browser.find_element("css selector", ".panel .curve").get_attribute("d")
    assert curve.startswith("M") and len(curve) > 8


def as_number(words):
    """A number as an explorer writes it."""
    if words == "—":
        return float("nan")
    words = words.replace("−", "-").replace(",", "")
    if "×" in words:
        digits, power = words.split("×")
        raised = power.strip().removeprefix("10").translate(
            str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
        )  # fmt: skip
        return float(digits) * 10 ** float(raised)
    return float(words)


def as_javascript(net):
    """A fully connected network as the JavaScript has it, for JSON."""
    return [
        {
            "weights": layer.weight.flatten().tolist(),
            "biases": layer.bias.tolist(),
            "inputs": layer.in_features,
            "outputs": layer.out_features,
        }
        for layer in net
        if isinstance(layer, nn.Linear)
    ]
