"""An engine by its import string: the operator's own, or an agent that its framework's adapter takes."""

import inspect
import os
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from gateway.ports import Engine
from gateway.server import plugins
from gateway.server.settings import PREFIX

GROUP = "gateway.agents"
"""Adapters, each under the name of the package whose objects it takes: `Class(agent, name)` is an
`Engine`, or raises `ValueError` in one line. The entry point's extra is what installs the framework."""

OWN = "engine"
"""The kind of engines that are of no framework."""


def lend(environ: Mapping[str, str]) -> None:
    """Put what `.env` says besides into the process's environment, where SDKs look for their keys."""
    for variable, value in environ.items():
        if not variable.startswith(PREFIX):
            os.environ.setdefault(variable, value)


def load(spec: str, name: str) -> tuple[Engine, str]:
    """The engine at `module:attribute` for the model `name`, and its kind: `engine`, or the extra of
    its framework. Raises `PluginError`; does not import any framework that the module does not."""
    found = plugins.run(f"{spec!r} cannot be loaded", lambda: _find(spec))
    engine = _recognise(spec, name, found)
    if engine is None and callable(found):
        found = plugins.run(f"{spec!r} cannot be called", found)
        if inspect.iscoroutine(found):
            found.close()
            raise plugins.PluginError(f"{spec!r} is async; expected a plain function of an engine")
        engine = _recognise(spec, name, found)
    if engine is None:
        raise plugins.PluginError(
            f"{spec!r} is {_article(type(found).__name__)}; expected an engine (its method is "
            f"stream(call, request)), an agent of {', '.join(_packages())}, or a function of either"
        )
    return engine


def _find(spec: str) -> object:
    try:
        return plugins.attribute(spec)
    except plugins.PluginError as error:
        cause = error.__cause__
        point = _packages().get(cause.name or "") if isinstance(cause, ImportError) else None
        if point is not None:
            raise plugins.PluginError(
                f"{spec!r} needs {point.name}, which is not installed: "
                f"pip install '{plugins.DISTRIBUTION}[{_extra(point)}]'"
            ) from error
        raise


def _recognise(spec: str, name: str, found: object) -> tuple[Engine, str] | None:
    packages = _packages()
    for base in type(found).__mro__:
        point = packages.get(base.__module__.partition(".")[0])
        if point is not None:
            return _adapt(point, spec, name, found), _extra(point)
    stream = None if isinstance(found, type) else getattr(found, "stream", None)
    if inspect.iscoroutinefunction(stream):
        raise plugins.PluginError(
            f"{spec!r}: its method stream yields nothing: see docs/adding-an-engine.md"
        )
    if callable(stream):
        return cast(Engine, found), OWN
    return None


def _adapt(point: EntryPoint, spec: str, name: str, found: object) -> Engine:
    try:
        make = cast(Callable[[object, str], Engine], point.load())
    except (ImportError, AttributeError) as error:
        # The framework is there, or nothing would be of it: another age of it than the adapter knows.
        raise plugins.PluginError(f"{GROUP}: {point.name!r} cannot be loaded: {error}") from error
    try:
        return make(found, name)
    except ValueError as error:
        raise plugins.PluginError(f"{spec!r}: {error}") from error


def _packages() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _extra(point: EntryPoint) -> str:
    # Not `point.extras`, which in Python 3.11 knows no extra with a hyphen.
    return point.value.partition("[")[2].rstrip("] ") or point.name


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'AEIOUaeiou' else 'a'} {noun}"
