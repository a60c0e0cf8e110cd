"""The project's own files agree with each other."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import implreg

ROOT = Path(__file__).parents[1]
PROJECT, BOOK = (
    tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    for folder in ("", "book")
)
LINES = [  # of requirements, those of each other aside
    line
    for project in (PROJECT, BOOK)
    for lines in (project["dependencies"], *project.get("optional-dependencies", {}).values())
    for line in lines
    if canonicalize_name(Requirement(line).name) not in (PROJECT["name"], BOOK["name"])
]
PINS = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
]


def requirements(lines):
    """Each requirement as (name, specifiers), names in their canonical spelling."""
    return {
        (canonicalize_name(requirement.name), str(requirement.specifier))
        for requirement in map(Requirement, lines)
    }


WANTED = requirements(LINES)


def test_conda_environment_has_the_same_dependencies():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    python, pip, section = environment["dependencies"]
    assert python.startswith(f"python{PROJECT['requires-python']}") and pip == "pip"
    options = [line for line in section["pip"] if line.startswith("-")]
    assert options == ["-c constraints.txt", "-e .", "-e ./book"]
    wanted = WANTED - requirements(PROJECT["optional-dependencies"]["onnx"])  # brings torchvision
    assert requirements(line for line in section["pip"] if not line.startswith("-")) == wanted


def test_constraints_are_exact_sorted_and_public():
    names = []
    for line in PINS:
        name, version = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line).groups()
        assert "+" not in version
        names.append(canonicalize_name(name))
    assert names == sorted(set(names))


def test_every_dependency_is_pinned_within_its_range():
    pins = dict(line.split("==") for line in PINS)
    for requirement in map(Requirement, LINES):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is pinned"


def test_a_dependency_is_listed_once():
    """Except by an extra that a reader installs alone; then with the same range."""
    alone = requirements(BOOK["optional-dependencies"]["imagenet"])
    assert len(LINES) == len(WANTED) + len(
        alone & requirements(PROJECT["optional-dependencies"]["test"])
    )
    assert len(WANTED) == len({name for name, _ in WANTED})


def test_citation_names_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == PROJECT["version"] == implreg.__version__ == BOOK["version"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Kubo", "Banno", "Manabe", "Minoji",
    ]  # fmt: skip
    assert any("1903.01997" in identifier["value"] for identifier in paper["identifiers"])


@pytest.mark.parametrize("file", ["tests.yml", "book.yml"])
def test_workflows_are_valid_and_use_the_same_commands_as_people(file):
    text = (ROOT / ".github" / "workflows" / file).read_text()
    assert yaml.safe_load(text)["jobs"]
    assert ".ci/run" in text if file == "tests.yml" else "make book" in text


def test_shipped_data_carry_their_licence():
    folder = Path(implreg.__file__).parent / "datasets" / "data"
    assert "Zalando" in (folder / "LICENSE-fashion-mnist.txt").read_text()
    assert "Zalando" in (folder / "README.md").read_text()


# The Makefile, with a stand-in for Python that keeps a log and installs nothing

PYTHON = """#!/bin/sh
echo "$*" >> log
case "$*" in
    "-m venv"*) mkdir -p .venv/bin && rm -f .venv/bin/python && cp "$0" .venv/bin/python ;;
    "-m pip --version") test ! -f no-pip ;;
    "-m pip install"*) test ! -f no-network ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile and a `make` that finds only the interpreters in bin."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed.")
    for name in ("bin", "book"):
        (tmp_path / name).mkdir()
    for name in ("Makefile", "pyproject.toml", "book/pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
        script(tmp_path / "bin" / name, "#!/bin/sh\necho a shim without its python >&2\nexit 127\n")
    return tmp_path


TEST = (
    "-m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations=15 "
    "--durations-min=5"
)


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


def make(folder, *arguments):
    """Run make and return its exit code, its errors and what the stand-in was asked to do."""
    (folder / "log").write_text("")
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stderr, (folder / "log").read_text().splitlines()


def test_make_without_a_python_says_what_to_do(clone):
    code, error, _ = make(clone, "test")
    assert code != 0 and not (clone / ".venv").exists()
    sentence = error.splitlines()[0]
    assert sentence.startswith("There is no Python 3.11") and "PYTHON=" in sentence
    code, error, _ = make(clone, "test", "PYTHON=/nowhere/python3")
    assert code != 0 and "PYTHON=/nowhere/python3 is not Python 3.11" in error


def test_make_passes_over_broken_interpreters_and_installs_once(clone):
    script(clone / "bin" / "python3.12", PYTHON)
    install = (
        "-m pip install --quiet --disable-pip-version-check -c constraints.txt "
        "-e .[test,dev] -e ./book"
    )
    code, error, asked = make(clone, "test")
    assert code == 0, error
    assert asked[-3:] == ["-m venv --clear .venv", install, TEST]
    assert make(clone, "test")[2] == [TEST]
    assert make(clone, "check")[2] == [
        "-m ruff check", "-m ruff format --check", "-m mypy",
        f"{TEST} -m not (pages or browser or processes)",
    ]  # fmt: skip
    assert make(clone, "book", "PROFILE=smoke")[2] == ["-m implreg book --profile smoke"]

    later = (clone / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(clone / "constraints.txt", (later, later))
    assert make(clone, "test")[2] == ["-m pip --version", install, TEST]


def test_make_mends_an_installation_that_broke_off(clone):
    script(clone / "bin" / "python3", PYTHON)
    (clone / "no-network").touch()
    code, _, asked = make(clone, "test")
    assert code != 0 and TEST not in asked
    (clone / "no-network").unlink()
    code, _, asked = make(clone, "test")
    assert code == 0 and "-m venv --clear .venv" not in asked and asked[-1] == TEST
    # An environment that broke off before pip was there, or lost its interpreter, is made anew.
    (clone / ".venv" / ".installed").unlink()
    (clone / "no-pip").touch()
    assert "-m venv --clear .venv" in make(clone, "test")[2]
    (clone / ".venv" / "bin" / "python").unlink()
    (clone / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert "-m venv --clear .venv" in make(clone, "test")[2]


def test_make_serve_asks_for_the_book_first(clone):
    code, error, asked = make(clone, "serve")
    assert code != 0 and "make book" in error and not asked
