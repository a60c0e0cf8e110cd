"""Redraws of the path explorer in Chromium, beside a frame of 1/60 s and the tracer in Python.

    python benchmarks/explorer_speed.py --quick
    python benchmarks/explorer_speed.py

A sample is moved many times over the plane, as by a fast mouse. A redraw counts from the beginning
of its callback until styles and layout are computed: trace, measures, three charts, plane, numbers.
The tracer in Python traces the same paths, one by one, without drawing anything. Chromium and its
driver must be installed (on Debian: apt-get install chromium chromium-driver).
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _measure import say, seconds, show
from implreg_book.press.explorers import state_script
from implreg_book.widgets.scripts import page_script
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

import implreg as ir
from implreg.widgets import path_explorer

FRAME = 1000 / 60  # ms
SHAPES = [(64, 1), (64, 2), (64, 4), (256, 2)]
MOVE = """
const [count, done] = arguments;
const took = [], places = [];
const frame = window.requestAnimationFrame;
window.requestAnimationFrame = (draw) => frame(() => {
  const begin = performance.now();
  draw();
  document.body.getBoundingClientRect();
  took.push(performance.now() - begin);
});
const plane = document.querySelector(".plane svg");
const handle = document.querySelector("[aria-label='Sample A']");
handle.hasPointerCapture = () => true;
const next = (k) => {
  if (k === count) return done({ took, places });
  const angle = (2 * Math.PI * k) / count, box = plane.getBoundingClientRect();
  const at = [1.2 * Math.cos(angle), 1.2 * Math.sin(angle)];
  places.push(at);
  handle.dispatchEvent(new PointerEvent("pointermove", {
    clientX: box.left + (box.width * (1 + at[0] / 1.7)) / 2,
    clientY: box.top + (box.height * (1 - at[1] / 1.7)) / 2,
  }));
  frame(() => frame(() => next(k + 1)));
};
next(0);
"""


def browser(profile: str) -> webdriver.Chrome:
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next((path for name in names if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        sys.exit("Chromium and its driver are needed; install them, on Debian with: "
                 "apt-get install chromium chromium-driver")  # fmt: skip
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--disable-background-networking", f"--user-data-dir={profile}")  # fmt: skip
    for flag in flags:
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def measure(driver: webdriver.Chrome, folder: Path, width: int, depth: int, moves: int) -> dict:
    explorer = path_explorer()
    explorer.width, explorer.depth = width, depth
    (folder / "explorer.js").write_text(page_script("path"), encoding="utf-8")
    page = {"explorer": "path", "state": explorer.page_state()}
    (folder / "state.js").write_text(state_script(page, "one"), encoding="utf-8")
    (folder / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><body><div><img alt="">'
        '<div class="explorer-state" data-explorer="path" data-state="one"></div></div>'
        '<script src="state.js"></script><script src="explorer.js"></script>',
        encoding="utf-8",
    )
    driver.get((folder / "index.html").as_uri())
    WebDriverWait(driver, 10).until(lambda d: d.find_elements("css selector", ".implreg-explorer"))
    driver.execute_async_script(MOVE, moves // 4)  # the first ones warm up
    found = driver.execute_async_script(MOVE, moves)
    took = np.array(found["took"])
    net, other = explorer.net, torch.tensor(explorer.points[1], dtype=torch.float64)
    python = []
    for place in found["places"]:
        ends = torch.stack([torch.tensor(place, dtype=torch.float64), other])[:, None] * 2**0.5
        python.append(1000 * seconds(lambda ends=ends: ir.trace(net, tuple(ends))))
    return {
        "hidden layers": depth, "units each": width, "moves": len(took),
        "redraw ms": f"{np.median(took):.2f}", "95 % below": f"{np.quantile(took, 0.95):.2f}",
        "slowest": f"{took.max():.2f}", "redraw / frame": f"{np.median(took) / FRAME:.2f}",
        "95 % / frame": f"{np.quantile(took, 0.95) / FRAME:.2f}",
        "redraw / ir.trace": f"{np.median(took) / np.median(python):.2f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, help="of a sample, for each size (default: 240)")
    parser.add_argument("--quick", action="store_true", help="the smallest size, 8 moves")
    options = parser.parse_args()
    moves = options.moves or (8 if options.quick else 240)
    rows = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        driver.set_script_timeout(300)
        for width, depth in SHAPES[:1] if options.quick else SHAPES:
            say(f"{depth} x {width} ...")
            rows.append(measure(driver, Path(folder), width, depth, moves))
        driver.quit()
    show("Time of a redraw of the path explorer, per move of a sample", rows)


if __name__ == "__main__":
    main()
