"""The built site, opened in a real browser: what a reader would see."""

import functools
import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("selenium", reason="the site's tests need the extra test: pip install .[test]")

from _browser import DESKTOP, PATIENCE, PHONE, chromium, mount_explorers
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [
    pytest.mark.pages,
    pytest.mark.timeout(func_only=True),  # the site has a limit of its own
]
BUDGET = 600 * 1024  # bytes of a first visit to a page, compressed
PACKED = (".woff2", ".png")  # files that gzip does not make smaller
COLOURS = "color-contrast", "link-in-text-block"  # rules of axe-core
AXE = (Path(__file__).parents[1] / "axe" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(smoke_site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(smoke_site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def pages(smoke_site: Path) -> list[str]:
    found = sorted(p.relative_to(smoke_site).as_posix() for p in smoke_site.glob("book/**/*.html"))
    assert found
    return [*found, "search.html"]


def visit(
    browser: webdriver.Chrome, address: str, screen: dict[str, Any] = DESKTOP
) -> list[dict[str, Any]]:
    """Open a page, load all its pictures, and return what the console said."""
    browser.get_log("browser")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(address)
    WebDriverWait(browser, PATIENCE).until(
        lambda d: d.execute_script("return document.readyState") == "complete"
    )
    browser.execute_async_script(
        "const done = arguments[0], pictures = [...document.images];"
        "for (const picture of pictures) picture.loading = 'eager';"
        "const all = pictures.map(picture => picture.decode().catch(() => {}));"
        "Promise.all(all).then(() => setTimeout(done, 100));"
    )
    mount_explorers(browser)
    log: list[dict[str, Any]] = browser.get_log("browser")
    return log


def requested(browser: webdriver.Chrome) -> list[str]:
    """Return the addresses asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def weights(folder: Path, addresses: list[str]) -> dict[str, int]:
    """Size of each file of the site among these addresses, as a server sends it."""
    files = {folder / unquote(urlsplit(address).path).lstrip("/") for address in addresses}
    return {
        file.relative_to(folder).as_posix(): len(
            file.read_bytes()
            if file.suffix in PACKED
            else gzip.compress(file.read_bytes(), mtime=0)
        )
        for file in files
        if file.is_file()
    }


def axe(browser: webdriver.Chrome, *only: str) -> list[str]:
    """Return what axe-core finds on the page that is open: rule, what is wrong, and where.

    Args:
        browser: that shows the page.
        only: rules, by default all that axe-core has on.
    """
    browser.execute_script(AXE)
    chosen = {"runOnly": only} if only else {}
    found = browser.execute_async_script(
        "const [options, done] = arguments;"
        "axe.run(document, options)"
        "   .then(result => done(result.violations), error => done(String(error)));",
        {"resultTypes": ["violations"], "selectors": False} | chosen,
    )
    assert isinstance(found, list), found
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:200] for node in rule['nodes'][:3]]}"
        for rule in found
    ]


def switch_to(browser: webdriver.Chrome, wanted: str) -> None:
    """Choose a theme by the page's own button."""
    # Colours that are on their way to the other theme have no contrast of their own.
    browser.execute_script(
        "const style = document.createElement('style');"
        "style.textContent = '*, ::before, ::after { transition: none !important }';"
        "document.head.append(style);"
    )

    def mode() -> str:
        return str(browser.execute_script("return localStorage.getItem('mode')"))

    # The button goes round: as the system has it, light, dark.
    for _ in range(3):
        if (before := mode()) != wanted:
            browser.execute_script("document.querySelector('.theme-switch-button').click()")
            WebDriverWait(browser, PATIENCE, 0.05).until(lambda _: mode() != before)
    assert browser.execute_script("return document.documentElement.dataset.theme") == wanted


def brightness(browser: webdriver.Chrome) -> int:
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.strip("rgba()").split(",")[:3])


@dataclass
class Seen:
    """What one visit to a page showed."""

    noise: list[dict[str, Any]]  # of the console
    addresses: list[str]  # asked for
    pictures: list[dict[str, Any]]
    formulas: tuple[int, int, int]  # sources, set for the eye, set for screen readers
    raw: str  # text that holds TeX
    faults: dict[str, list[str]]  # of accessibility, by theme
    bright: dict[str, int]  # the page's background, by theme


def look_at(browser: webdriver.Chrome, address: str) -> Seen:
    noise = [entry for entry in visit(browser, address) if entry["level"] in ("SEVERE", "WARNING")]
    pictures, formulas, raw = browser.execute_script(
        "const count = selector => document.querySelectorAll(selector).length;"
        "const main = document.querySelector('main').cloneNode(true);"
        "for (const e of main.querySelectorAll('.katex, pre, code, script')) e.remove();"
        "const pictures = [...document.querySelectorAll('main img')].map("
        "  ({ src, alt, naturalWidth }) => ({ src, alt, width: naturalWidth }));"
        "const set = ['.math', '.math .katex-html', '.math math'].map(x => count('main ' + x));"
        "return [pictures, set, /\\\\[([a-z]/.exec(main.textContent)?.input ?? ''];"
    )
    addresses, faults, bright = requested(browser), {}, {}
    for theme, rules in (("light", ()), ("dark", COLOURS)):  # they alone differ
        switch_to(browser, theme)
        faults[theme], bright[theme] = axe(browser, *rules), brightness(browser)
    return Seen(noise, addresses, pictures, tuple(formulas), raw, faults, bright)


@pytest.fixture(scope="module")
def seen(pages: list[str], site: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Every page on a wide screen, visited once, by two browsers side by side."""

    def look(number: int) -> dict[str, Seen]:
        with chromium(tmp_path_factory.mktemp("browser")) as browser:
            return {page: look_at(browser, f"{site}/{page}") for page in pages[number::2]}

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(look, range(2))
    return one | other


def test_no_page_has_console_errors_or_asks_another_site(site: str, seen: dict[str, Seen]) -> None:
    host = urlsplit(site).netloc
    for page, one in seen.items():
        assert not one.noise, f"{page}: {one.noise}"
        assert any(page in address for address in one.addresses)
        outside = [
            address
            for address in one.addresses
            if urlsplit(address).scheme in ("http", "https", "ws", "wss")
            and urlsplit(address).netloc != host
        ]
        assert not outside, f"{page}: {outside}"


def test_no_page_is_heavy(smoke_site: Path, seen: dict[str, Seen]) -> None:
    for page, one in seen.items():
        parts = weights(smoke_site, one.addresses)
        assert page in parts and "_static/book.css" in parts
        total = sum(parts.values())
        heaviest = sorted(parts.items(), key=lambda part: -part[1])[:5]
        assert total <= BUDGET, f"{page} weighs {total} bytes of {BUDGET}, above all {heaviest}"


def test_every_picture_is_there_and_has_an_alternative_text(seen: dict[str, Seen]) -> None:
    assert sum(len(one.pictures) for one in seen.values())
    for page, one in seen.items():
        for picture in one.pictures:
            assert picture["alt"], f"{page}: {picture['src']} has no alternative text"
            assert picture["width"] > 0, f"{page}: {picture['src']} was not loaded"


def test_all_mathematics_is_typeset_for_eyes_and_ears(seen: dict[str, Seen]) -> None:
    assert sum(one.formulas[0] for one in seen.values())
    for page, one in seen.items():
        sources, eyes, ears = one.formulas
        assert sources == eyes == ears, f"{page}: {eyes} and {ears} of {sources} formulas are set"
        assert not one.raw, f"{page} shows TeX: {one.raw[:200]}"


def test_no_page_is_wider_than_a_phone(
    browser: webdriver.Chrome, pages: list[str], site: str
) -> None:
    for page in pages:
        visit(browser, f"{site}/{page}", PHONE)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{page} is {width} wide"


def test_the_theme_can_be_switched_and_every_page_is_accessible_in_both(
    seen: dict[str, Seen],
) -> None:
    for page, one in seen.items():
        for theme, faults in one.faults.items():
            assert not faults, f"{page}, {theme}:\n" + "\n".join(faults)
        assert one.bright["dark"] < one.bright["light"] / 2


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("deflection", "glossary"),
        ("VGG", "depth-at-initialisation"),
        ("cite", "citing"),
        ("gap_deviation", "api/measures"),
    ],
)
def test_a_search_finds_its_page(
    browser: webdriver.Chrome, site: str, query: str, page: str
) -> None:
    visit(browser, f"{site}/search.html?q={query}")
    found = WebDriverWait(browser, PATIENCE).until(
        lambda d: d.find_elements(By.CSS_SELECTOR, f"#search-results a[href*='book/{page}.html']")
    )
    browser.get(found[0].get_attribute("href"))
    assert browser.find_elements(By.CSS_SELECTOR, "article h1")
