"""The built wheel: one for Python 3.11 and later, with all files of the package and no others."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "maturin", "build", "--release", "--quiet", "--out", folder]
    subprocess.run(command, cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


def package_files() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "python/swarmbench", "kernels"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = {line.removeprefix("python/") for line in listed.stdout.splitlines()}
    # The package's own folder of kernels is a link to the repository's.
    linked = {name for name in files if name.startswith("kernels/")}
    return (files - linked - {"swarmbench/kernels"}) | {f"swarmbench/{name}" for name in linked}


def test_one_wheel_serves_every_python_from_3_11_on(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name


def test_the_wheel_holds_every_file_of_the_package_and_no_others(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside - {"swarmbench/_native.abi3.so"} == package_files()
    assert "swarmbench/_native.abi3.so" in inside


def test_the_wheel_carries_its_licence_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        assert "swarmbench=swarmbench.cli:entry" in archive.read(
            metadata["entry_points.txt"]
        ).decode().replace(" ", "")
        assert "LICENSE" in metadata
