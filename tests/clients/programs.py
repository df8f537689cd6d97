"""Cases that run as a program of another environment and print one JSON object."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def play(command: Sequence[str | Path], source: Path, *, cwd: Path | None = None) -> dict[str, Any]:
    """Runs the program in `source`, which is read from standard input, and takes what it printed.
    What it says on standard error is a failure: SDKs put warnings and unhandled rejections there."""
    with source.open() as program:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=program,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    if done.returncode or done.stderr:
        raise AssertionError(f"{source.name} ended with {done.returncode}:\n{done.stderr}")
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
