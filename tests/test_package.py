"""What `pip` gets: the source distribution, and the wheel that is built from it."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import duca_compile
from duca_compile.refusal import ISSUES

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text()
SOURCES = ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")


def build(kind: str, source: Path, target: Path) -> Path:
    """A distribution, as `pip` has setuptools build it."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    ran = subprocess.run([sys.executable, "-c", code, target], cwd=source, check=True, capture_output=True, text=True)
    return target / ran.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a copy of the checkout, unpacked."""
    pytest.importorskip("setuptools", minversion="77")
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("sdist")
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    for name in ("docs", "duca_compile", "passes"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(build("sdist", copy, target)) as packed:
        packed.extractall(target, filter="data")
    return target / f"duca_compile-{duca_compile.__version__}"


def test_the_source_distribution_holds_its_pages(source: Path) -> None:
    assert all((source / name).exists() for name in SOURCES)
    assert (source / "docs" / "command_line.md").exists()
    assert not (source / "tests").exists()


def test_a_wheel_from_it_holds_the_whole_package(source: Path, tmp_path: Path) -> None:
    package = ROOT / "duca_compile"
    folders = [each for each in (package, *package.rglob("*/")) if each.is_dir()]
    wanted = {str(path.relative_to(ROOT)) for folder in (*folders, package / "passes") for path in folder.glob("*.py")}
    with zipfile.ZipFile(build("wheel", source, tmp_path)) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if name.endswith(".py")} == wanted
    assert "duca_compile/passes/cut_stream.py" in names
    assert "duca_compile/py.typed" in names


def test_faults_are_reported_where_the_project_says() -> None:
    assert f'Issues = "{ISSUES}"' in PROJECT


def test_the_changelog_names_this_version() -> None:
    assert re.search(rf"\b{re.escape(duca_compile.__version__)}\b", (ROOT / "CHANGELOG.md").read_text())
