"""`make bench`: what a request and a chunk cost, in CPU time and in delay. Under five minutes.

The gateway runs as an operator runs it, with keys, the ledger and all the rest, on a core of its own.
Beside it, in turns with it, runs a bare relay: what the stack costs on this machine, today. CPU time is
that of the whole process, from the kernel's scheduler, and hardly depends on what else is running.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from tests.benchmarks import litellm
from tests.benchmarks.chart import draw
from tests.benchmarks.load import Heard, Load, make
from tests.benchmarks.processes import OURS, THEIRS, child, cpu, pin, resident, unused_port, wait
from tests.servers.gateway import Gateway

PACED = (1, 10, 50, 200, 500)
"""Streams at a time. A chunk every 20 ms each: 50 tokens a second, as models write."""
REQUEST = Load(clients=16, answers=40, chunks=64, pause=0, stream=False)
STREAM = Load(clients=16, answers=40, chunks=1, pause=0)
FLOOD = Load(clients=16, answers=6, chunks=400, pause=0)
_LONGEST = 240.0
"""Seconds of all turns."""


@dataclass
class Target:
    name: str
    url: str
    model: str
    key: str
    pid: int
    whole: str = ""
    """Before the models that are asked for in one piece where the client wants one."""
    paced: tuple[int, ...] = PACED
    turns: int = 100
    """It takes part in, at most."""
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def figure(self, name: str) -> float:
        return statistics.median(self.figures[name])


def paced(streams: int) -> Load:
    return Load(clients=streams, answers=1, chunks=100, pause=20)


@contextmanager
def targets(folder: Path, *, with_litellm: bool) -> Iterator[list[Target]]:
    """The gateway, the relay and what else is compared, started and listening."""
    with ExitStack() as stack:
        provider = stack.enter_context(child(sys.executable, "-m", "tests.benchmarks.upstream"))
        assert provider.stdout is not None
        upstream = f"http://127.0.0.1:{int(provider.stdout.readline())}"
        pin(provider.pid, THEIRS)
        row = f"{{type: openai, base_url: {upstream}/v1, ask_whole: "
        config = f"providers:\n  b: {row}false}}\n  w: {row}true}}\n"
        started = time.monotonic()
        gateway = stack.enter_context(Gateway(folder, config))
        seconds = time.monotonic() - started
        port = unused_port()
        relay = stack.enter_context(
            child(
                *(sys.executable, "-m", "uvicorn", "tests.benchmarks.relay:app"),
                *(
                    "--port",
                    str(port),
                    "--loop",
                    "uvloop",
                    "--http",
                    "httptools",
                    "--no-access-log",
                ),
                UPSTREAM=upstream,
            )
        )
        wait(f"http://127.0.0.1:{port}")
        found = [
            Target("sluice", gateway.url, "b/", gateway.key(), gateway.pid, whole="w/"),
            Target("relay", f"http://127.0.0.1:{port}", "", "none", relay.pid),
        ]
        found[0].note("start", seconds)
        if with_litellm:
            url, pid = stack.enter_context(litellm.proxy(folder, upstream))
            # More streams than these it cannot keep up with, and its turns are long.
            found.append(Target("LiteLLM", url, "", litellm.KEY, pid, paced=(1, 10, 50), turns=1))
        for target in found:
            pin(target.pid, OURS)
        yield found


async def measure(target: Target, load: Load, *, whole: bool = False) -> tuple[float, Heard]:
    """Microseconds, with what is done after the last answer."""
    before = cpu(target.pid)
    model = target.whole if whole else target.model
    heard = await make(load, target.url, model, target.key)
    await asyncio.sleep(0.2)
    return cpu(target.pid) - before, heard


async def run(found: Sequence[Target], repeats: int) -> None:
    for target in found:
        target.note("idle MB", resident(target.pid))
        await measure(target, STREAM)  # warm
        await measure(target, REQUEST)
    began = time.monotonic()
    for turn in range(repeats):
        present = [target for target in found if turn < target.turns]
        for target in present if turn % 2 == 0 else reversed(present):
            for name, load in (("request", REQUEST), ("whole", REQUEST), ("stream", STREAM)):
                spent, heard = await measure(target, load, whole=name == "whole")
                target.note(name, spent / heard.answers)
            await _chunks(target, "flood", FLOOD)
            for streams in target.paced:
                await _chunks(target, f"paced {streams}", paced(streams))
        print(f"turn {turn + 1} of {repeats} is over", file=sys.stderr)
        spent = time.monotonic() - began
        if spent / (turn + 1) * (turn + 2) > _LONGEST:
            break  # the machine is busy with something else
    for target in found:
        target.note("MB after", resident(target.pid))


async def _chunks(target: Target, name: str, load: Load) -> None:
    """CPU of a chunk, less what a stream costs that has one."""
    spent, heard = await measure(target, load)
    net = spent - heard.answers * target.figure("stream")
    target.note(name, net / (heard.chunks - heard.answers))
    for kind, values in (("first", heard.first), ("delay", heard.delays)):
        ordered = sorted(values)
        target.note(f"{name} {kind} p50", ordered[len(ordered) // 2])
        target.note(f"{name} {kind} p99", ordered[len(ordered) * 99 // 100])


def show(found: Sequence[Target], console: Console) -> None:
    sluice, relay, *others = found
    names = [target.name for target in found]
    cost = Table("CPU, µs", *names, "sluice : relay", title="Cost")
    rows = {
        "a request, 16 at a time": "request",
        "… asked for in one piece": "whole",
        "a stream of one chunk, 16 at a time": "stream",
        "a chunk, as fast as it goes": "flood",
        **{f"a chunk every 20 ms, {n} streams": f"paced {n}" for n in PACED},
    }
    for label, name in rows.items():
        values = [f"{t.figure(name):,.1f}" if name in t.figures else "–" for t in found]
        cost.add_row(label, *values, f"{sluice.figure(name) / relay.figure(name):.2f}")
    console.print(cost)
    delay = Table("ms, p50 / p99", *names, title="Delay, the way to each included")
    for streams in PACED:
        for kind, what in (("first", "to the first chunk"), ("delay", "of a chunk")):
            name = f"paced {streams} {kind}"
            delay.add_row(
                f"{what}, {streams} streams",
                *(
                    f"{t.figure(name + ' p50'):.2f} / {t.figure(name + ' p99'):.2f}"
                    if streams in t.paced
                    else "–"
                    for t in found
                ),
            )
    console.print(delay)
    console.print(
        f"The gateway listened after {sluice.figure('start'):.1f} s, held "
        f"{sluice.figure('idle MB'):.0f} MB then and {sluice.figure('MB after'):.0f} MB at the end."
    )
    for other in others:
        chunk, request = (other.figure(n) / sluice.figure(n) for n in ("paced 50", "whole"))
        console.print(
            f"{other.name} takes {chunk:.0f} times as much a chunk, {request:.0f} a request."
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--chart", type=Path, default=Path("docs/performance.svg"))
    options.add_argument("--litellm", action="store_true", help="compare with LiteLLM's proxy")
    chosen = options.parse_args()
    if chosen.litellm:
        litellm.install()
    pin(os.getpid(), THEIRS)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with targets(folder, with_litellm=chosen.litellm) as found:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run(found, chosen.repeats))
            show(found, Console(width=100))
            pictured = found[:2]  # beside LiteLLM's they would both lie on the ground
            chosen.chart.write_text(
                draw(
                    {t.name: {n: t.figure(f"paced {n}") for n in t.paced} for t in pictured},
                    {
                        t.name: {n: t.figure(f"paced {n} delay p99") for n in t.paced}
                        for t in pictured
                    },
                )
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
