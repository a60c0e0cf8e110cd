"""What the packages hold that are built from the repository: nothing is missing, nothing strays."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

pytest.importorskip("setuptools", "77", reason="builds need it: pip install 'setuptools>=77'")

ROOT = Path(__file__).parents[1]
BUILD = "import sys, setuptools.build_meta as m; getattr(m, f'build_{sys.argv[1]}')(sys.argv[2])"
OF_THE_BOOK = {
    "distributed", "ipykernel", "jupyter-book", "myst-nb", "nbclient", "nbformat", "papermill",
    "pyarrow", "sphinx", "sphinx-proof",
}  # fmt: skip


def tracked():
    """The files of the repository; none in a folder that is none."""
    if shutil.which("git") is None:
        return set()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is tracked, or of this unpacked archive."""
    folder = tmp_path_factory.mktemp("copy") / "source"
    if names := tracked():
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    else:
        made = ".*cache", ".hypothesis", ".venv", "__pycache__", "_build", "build", "*.egg-info"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*made))
    return folder


def build(kind, folder):
    """Make the wheel or the archive of the source in this folder, with what is installed here."""
    out = folder / "dist"
    command = [sys.executable, "-c", BUILD, kind, str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


def wheel(folder, package):
    """The wheel's files but those that describe it, those of its package, and what it says."""
    with ZipFile(build("wheel", folder)) as file:
        own, about = set(), {}
        for name in file.namelist():
            place, _, rest = name.partition("/")
            if place.endswith(".dist-info"):
                about[rest] = file.read(name).decode()
            else:
                own.add(name)
    package = folder / package
    made = {path.relative_to(folder).as_posix() for path in package.rglob("*") if path.is_file()}
    return own, made, about


def required(about):
    """Names of what installing a wheel without extras installs."""
    lines = Parser().parsestr(about["METADATA"]).get_all("Requires-Dist")
    return {r.name for r in map(Requirement, lines) if "extra ==" not in str(r.marker)}


def test_the_instrument_comes_whole_and_without_the_book(source):
    own, made, about = wheel(source, "implreg")
    assert own == made
    data = "implreg/datasets/data"
    assert {f"{data}/{name}.npz" for name in ("digits", "mnist1d", "fashion-mnist")} < own
    assert {f"{data}/LICENSE-{name}.txt" for name in ("mnist1d", "fashion-mnist")} < own
    assert {"implreg/py.typed", "implreg/widgets/js/tracer.js"} < own
    assert {"licenses/LICENSE", f"licenses/{data}/LICENSE-fashion-mnist.txt"} < about.keys()
    assert f"licenses/{data}/LICENSE-mnist1d.txt" in about
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {Requirement(line).name for line in project["dependencies"]}
    assert required(about) == wanted and not wanted & OF_THE_BOOK


def test_the_book_comes_with_its_scripts_and_needs_the_instrument(source):
    own, made, about = wheel(source / "book", "implreg_book")
    assert own == made
    assert {"implreg_book/py.typed", "implreg_book/widgets/js/host.js"} < own
    assert "implreg_book.commands:COMMANDS" in about["entry_points.txt"]
    assert "licenses/LICENSE" in about
    assert required(about) > {"implreg", *OF_THE_BOOK - {"sphinx"}}


def test_the_archive_of_the_source_holds_the_repository(source):
    names = tracked()
    if not names:
        pytest.skip("this folder is no git repository to compare with.")
    with tarfile.open(build("sdist", source)) as file:
        held = {path.partition("/")[2] for path in file.getnames()}
    assert not names - held
    assert not [name for name in held if "__pycache__" in name]
