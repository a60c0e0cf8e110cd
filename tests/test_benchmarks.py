"""Each benchmark runs with tiny sizes and prints its tables; nothing here looks at times."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
TABLES = {
    "trace_speed": [
        "trace against", "forward pass at the breakpoints", "layer-wise floor", "jvp", "regioncam",
        "one by one", "sampling at 1,001 points",
    ],
    "trace_memory": ["peak / bound", "256MB", "10 segments", "2,000 units"],
    "paper_networks": ["values apart", "resnet(10)", "vgg(3)"],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--quick"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in TABLES[name]:
        assert words in done.stdout
    assert "NO" not in done.stdout.split()  # bounded and free traces have the same units


def test_every_benchmark_is_tested_and_says_how_to_read_it() -> None:
    scripts = {file.stem: file for file in FOLDER.glob("[!_]*.py")}
    assert scripts.keys() == TABLES.keys()
    for name, file in scripts.items():
        assert f"python benchmarks/{name}.py --quick" in file.read_text()
