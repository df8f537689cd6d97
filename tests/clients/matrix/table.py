"""Which client builds read which dialect of the conformance catalogue: `make matrix` runs them all and
writes the table into docs/compatibility.md."""

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import openai

from tests.clients import environments
from tests.clients.programs import play
from tests.servers.gateway import Gateway

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "compatibility.md"
MARKS = ("<!-- matrix: made by `make matrix` -->", "<!-- matrix ends -->")

Faults = Mapping[str, Mapping[str, str]]
"""By dialect, then by probe: what was wrong."""

BUILDS: Sequence[str] = (
    f"openai-python {openai.__version__}",
    f"openai-python {environments.version('openai-1.40')}",
    *(
        f"openai-node {environments.version(sdk)}, {way}"
        for sdk in ("openai", "openai-4")
        for way in ("loop", "helper")
    ),
)


def run(build: str, base_url: str, key: str) -> Faults:
    """All probes in all dialects, by a build of the table."""
    name, way = (*build.split(", "), "")[:2]
    if name.startswith("openai-python"):
        python = Path(sys.executable) if name == BUILDS[0] else environments.old_python()
        return play([python, "-", base_url, key], HERE / "openai_python.py")
    node, folder = environments.node()
    sdk = "openai" if name.endswith(environments.version("openai")) else "openai-4"
    command: list[str | Path] = [node, "--no-deprecation", "--input-type=module", "-", sdk, way]
    return play([*command, base_url, key], HERE / "openai_node.mjs", cwd=folder)


def render(found: Mapping[str, Faults]) -> str:
    """Markdown. A cell says `all`, or what the build makes of the rest."""
    dialects = list(next(iter(found.values())))
    rows = [["client", *(f"`{dialect}`" for dialect in dialects)], ["---"] * (len(dialects) + 1)]
    for build, faults in found.items():
        rows.append([build, *(_cell(faults[dialect]) for dialect in dialects)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(faults: Mapping[str, str]) -> str:
    if not faults:
        return "all"
    causes = {re.sub(r"^(error|TypeError:) ", "", why) for why in faults.values()}
    return f"breaks on {len(faults)}: " + "; ".join(f"`{cause}`" for cause in sorted(causes))


def written() -> str:
    """The table that the page has."""
    page = PAGE.read_text("utf-8")
    return page[page.index(MARKS[0]) + len(MARKS[0]) : page.index(MARKS[1])].strip()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Gateway(Path(folder)) as gateway:
        key = gateway.key()
        found = {}
        for build in BUILDS:
            print(build, flush=True)
            found[build] = run(build, f"{gateway.url}/v1", key)
    page = PAGE.read_text("utf-8")
    start, end = page.index(MARKS[0]) + len(MARKS[0]), page.index(MARKS[1])
    PAGE.write_text(f"{page[:start]}\n\n{render(found)}\n\n{page[end:]}", "utf-8")


if __name__ == "__main__":
    main()
