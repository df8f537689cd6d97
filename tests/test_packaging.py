"""What is shipped, and what the installed metadata says of it."""

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gateway.server import plugins

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_wheel_holds_three_packages_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "gateway",
        "adapters",
        "keys",
    }
    assert {f"{package}/py.typed" for package in plugins.PACKAGES} <= set(names)


@pytest.mark.parametrize("group", sorted(PROJECT["entry-points"]))
def test_installed_entry_points_are_those_of_the_project(group: str) -> None:
    installed = {point.name: point.value for point in entry_points(group=group)}
    assert installed == PROJECT["entry-points"][group], "run `make install`: the metadata is old"


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group, points in PROJECT["entry-points"].items()
        for name in points
        if group != "gateway.agents"  # which need their frameworks: each is loaded in its lane
    ],
)
def test_every_plug_in_loads(group: str, name: str) -> None:
    assert callable(plugins.load(group, name))


def test_version_is_that_of_the_change_log() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text()
    newest = next(line for line in changes.splitlines() if line.startswith("## "))
    assert newest.split()[1] == PROJECT["version"]


def test_scripts_are_thin() -> None:
    for script in (ROOT / "scripts").glob("*.py"):
        assert len(script.read_text().splitlines()) <= 20, script


def test_locks_name_no_host() -> None:
    for lock in ROOT.glob("*.lock"):
        assert "://" not in lock.read_text()
