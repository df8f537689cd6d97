"""A plug-in by its name: an entry point of an installed package, or `module:attribute`."""

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from typing import TypeVar

DISTRIBUTION = "sluice-gateway"
PACKAGES = ("gateway", "adapters", "keys")

T = TypeVar("T")


class PluginError(Exception):
    """One line for the operator."""


def look_in(folder: Path) -> None:
    """Find modules of `module:attribute` in this folder, too. It comes last, and hides nothing."""
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.append(path)


def load(group: str, name: str) -> object:
    """What `name` stands for in `group` (`gateway.providers`, …). Raises `PluginError`."""
    if ":" in name:
        try:
            found = attribute(name)
        except PluginError as error:
            raise PluginError(f"{group}: {error}") from error
        if not callable(found):
            raise PluginError(f"{group}: {name!r} is neither a class nor a function")
        return found
    points = {point.name: point for point in entry_points(group=group)}
    if name not in points:
        raise PluginError(
            f"{group} has no {name!r}; it has {', '.join(names(group))} or module:attribute"
        )
    try:
        return points[name].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{group}: {name!r} cannot be loaded: {error}") from error


def names(group: str) -> list[str]:
    return sorted(point.name for point in entry_points(group=group))


def attribute(name: str) -> object:
    """What is at `module:attribute`. Raises `PluginError`, from the error behind it where there is one."""
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise PluginError(f"expected module:attribute, got {name!r}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            raise PluginError(
                f"there is no module {module!r} in the environment or beside sluice.yaml"
            ) from error
        raise PluginError(f"{name!r} cannot be loaded: {error}") from error
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{name!r} cannot be loaded: {error}") from error


def run(problem: str, call: Callable[[], T]) -> T:
    """Runs the operator's code, whose faults stop the start with one line like any other
    setting. Raises `PluginError`."""
    try:
        return call()
    except PluginError:
        raise
    except Exception as error:  # anything: it is not ours
        message = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"{problem}: {message}{_place(error)}") from error


def _place(error: Exception) -> str:
    """The last line of the operator's own code that led to it, where there is one."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_NOT_THEIRS):
            return f" ({frame.filename}:{frame.lineno})"
    return ""


_NOT_THEIRS = (
    "<",
    str(Path(__file__).parent),
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)


def check_ownership() -> None:
    """That our three top-level names are ours: other distributions carry an `adapters`, too, and pip
    installs two owners of one folder without a word. Raises `PluginError`."""
    owners = packages_distributions()
    for package in PACKAGES:
        foreign = sorted(set(owners.get(package, ())) - {DISTRIBUTION})
        if foreign:
            raise PluginError(
                f"the package {package!r} is also installed by {', '.join(foreign)}; "
                "install Sluice into an environment of its own"
            )
    homes = {
        str(Path(file).parent.parent)
        for package in PACKAGES
        if (file := importlib.import_module(package).__file__) is not None
    }
    if len(homes) > 1:
        raise PluginError(
            f"gateway, adapters and keys come from different places ({', '.join(sorted(homes))}); "
            "install Sluice into an environment of its own"
        )
