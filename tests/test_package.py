"""What `pip` gets: the source distribution, and the wheel that is built from it."""

import email
import importlib.util
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
from pages import LINK, ROOT

PROJECT = (ROOT / "pyproject.toml").read_text()
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")


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
    for name in ("docs", "duca_compile", "passes", "examples", "benchmarks", "tests"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(build("sdist", copy, target)) as packed:
        packed.extractall(target, filter="data")
    return target / f"duca_compile-{duca_compile.__version__}"


def test_the_source_distribution_holds_its_pages_and_what_they_link(source: Path) -> None:
    """But for what only a contributor needs: the tests, and the passes where they lie in the repository."""
    assert all((source / name).exists() for name in SOURCES)
    assert not (source / "tests").exists()
    missing = set()
    for page in (source / "README.md", *(source / "docs").glob("*.md")):
        files = [link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link]
        missing |= {file for file in files if not (page.parent / file).exists()}
    assert missing == {"../tests/zoo", "passes"}
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {
        path.name for path in (source / "examples").glob("*.py")
    }
    assert (source / "benchmarks" / "__main__.py").exists()
    assert sum(file.stat().st_size for file in source.rglob("*") if file.is_file()) < 4 * 2**20


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_links_of_the_long_description_lead_to_the_repository(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        told = email.message_from_bytes(opened.read(name))
    assert told["Description-Content-Type"] == "text/markdown"
    links = LINK.findall(str(told.get_payload()))
    assert [link for link in links if not link.startswith("https://")] == []
    home = re.search('Homepage = "(.*)"', PROJECT)
    assert home
    assert f"{home[1]}/blob/main/docs/quick_start.md" in links
    assert f"{home[1]}#methods" in links
    (picture,) = [link for link in links if link.endswith(".png")]
    assert picture == f"{home[1].replace('github.com', 'raw.githubusercontent.com')}/main/examples/demo.png"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("twine") is None, reason="twine is not installed")
def test_twine_accepts_both(source: Path, wheel: Path) -> None:
    (packed,) = source.parent.glob("*.tar.gz")
    command = [sys.executable, "-m", "twine", "check", "--strict", str(packed), str(wheel)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_wheel_from_it_holds_the_whole_package(wheel: Path) -> None:
    package = ROOT / "duca_compile"
    folders = [each for each in (package, *package.rglob("*/")) if each.is_dir()]
    wanted = {str(path.relative_to(ROOT)) for folder in (*folders, package / "passes") for path in folder.glob("*.py")}
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {name for name in names if name.endswith(".py")} == wanted
    assert "duca_compile/passes/cut_stream.py" in names
    assert "duca_compile/py.typed" in names


def test_faults_are_reported_where_the_project_says() -> None:
    assert f'Issues = "{ISSUES}"' in PROJECT


def test_the_changelog_names_this_version() -> None:
    """As a release, or as the one that what is unreleased becomes: nowhere else it counts."""
    version, text = re.escape(duca_compile.__version__), (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{version}\] - \d|^## \[Unreleased\]\n\nTo become {version}\b", text, re.MULTILINE)
