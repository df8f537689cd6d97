"""Client builds on the conformance catalogue: each reads all of it in the dialect that it is given, and the
page says what each makes of the others."""

from collections.abc import Callable
from functools import cache

import pytest

from gateway.records import Dialect
from gateway.server.dialects import recognise
from tests.clients.matrix import table
from tests.clients.matrix.table import BUILDS, Faults, render, run, written

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def found(base_url: str, key: str) -> Callable[[str], Faults]:
    return cache(lambda build: run(build, base_url, key))


@pytest.mark.parametrize("build", BUILDS)
def test_a_build_reads_everything_in_its_dialect(
    found: Callable[[str], Faults], build: str
) -> None:
    name, version = build.split(",")[0].removeprefix("openai-").split(" ")
    language = {"python": "python", "node": "js"}[name]
    stainless = {"x-stainless-lang": language, "x-stainless-package-version": version}
    dialect = recognise(stainless) or Dialect.NAMED
    assert found(build)[dialect] == {}
    assert found(build)[Dialect.OFF] == {}


def test_the_page_has_what_was_found(found: Callable[[str], Faults]) -> None:
    assert render({build: found(build) for build in BUILDS}) == written(), "run `make matrix`"


def test_the_page_is_marked() -> None:
    assert all(mark in table.PAGE.read_text("utf-8") for mark in table.MARKS)
