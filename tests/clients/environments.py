"""Environments of their own for SDKs that cannot live beside the gateway: made on first use, then kept."""

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".envs"
OLD_REQUIREMENTS = HERE / "requirements-openai-1.40.txt"
NODE_FILES = ("package.json", "package-lock.json", ".npmrc")
LEAST_NODE = 20


class Missing(Exception):
    """What the tests need of this machine, and how to get it."""


def old_python() -> Path:
    """A Python with openai-python 1.40."""
    return python("openai-1.40", OLD_REQUIREMENTS)


def python(name: str, requirements: Path) -> Path:
    """A Python of its own with exactly these packages."""
    folder = ENVIRONMENTS / name

    def build() -> None:
        venv.create(folder, with_pip=True)
        _run(
            folder / "bin" / "python",
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--requirement", requirements),
        )

    _keep(folder, sys.version.encode() + requirements.read_bytes(), build)
    return folder / "bin" / "python"


def version(package: str) -> str:
    """Which one is run of an SDK that has an environment: `openai`, `openai-4`, `openai-1.40`."""
    if package == "openai-1.40":
        found = re.search(r"^openai==(.+)$", OLD_REQUIREMENTS.read_text(), re.MULTILINE)
        assert found is not None
        return found[1]
    packages = json.loads((HERE / "node" / "package-lock.json").read_text())["packages"]
    told: str = packages[f"node_modules/{package}"]["version"]
    return told


def node(name: str = "node") -> tuple[Path, Path]:
    """Node.js, and a folder in which it finds what `tests/clients/<name>/package.json` names."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        absent = "npm" if program else "node"
        raise Missing(
            f"The tests need Node.js {LEAST_NODE} or newer with npm; there is no {absent} here."
        )
    version = _run(program, "--version").strip()
    if int(version.removeprefix("v").split(".")[0]) < LEAST_NODE:
        raise Missing(f"The tests need Node.js {LEAST_NODE} or newer; this is {version}.")
    folder = ENVIRONMENTS / name
    files = [HERE / name / file for file in NODE_FILES]

    def build() -> None:
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder)
        _run(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)

    _keep(folder, b"\0".join(file.read_bytes() for file in files), build)
    return Path(program), folder


def _keep(folder: Path, requirements: bytes, build: Callable[[], None]) -> None:
    """Builds what was not built from these requirements, once however many workers ask."""
    stamp = folder / ".stamp"
    wanted = hashlib.sha256(requirements).hexdigest()
    with _lock(folder.with_name(f"{folder.name}.lock")):
        if stamp.exists() and stamp.read_text() == wanted:
            return
        shutil.rmtree(folder, ignore_errors=True)
        build()
        # Last, so that a build that was cut off is no build.
        stamp.write_text(wanted)


@contextmanager
def _lock(file: Path) -> Generator[None, None, None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        raise Missing(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout
