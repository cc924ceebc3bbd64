"""Which releases of torch the package runs on, and what it says on any other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from duca_compile import releases

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("version", ["2.10.2", "2.16.0", "2.16.0.dev20261101+cu130", "3.0.0", "1.13.1"])
def test_a_release_outside_of_the_range_is_told_at_once(version: str) -> None:
    with pytest.raises(ImportError, match=re.escape(f"this is torch {version}: pip install 'torch>=2.11,<2.16'")):
        releases.check(version)


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "2.15.1+cu130", "2.14.0a0+git1234567"])
def test_releases_of_the_range_pass(version: str) -> None:
    releases.check(version)


def test_the_package_says_so_before_anything_of_it_can_fail() -> None:
    code = "import torch; torch.__version__ = '2.10.0'; import duca_compile"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ImportError: duca-compile runs on torch 2.11 to 2.15")


def test_the_range_is_what_the_package_declares() -> None:
    ((first, last),) = re.findall(r'"torch>=([\d.]+),<([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert (releases.parsed(first), releases.parsed(last)) == (releases.FIRST, (2, releases.LAST[1] + 1))
