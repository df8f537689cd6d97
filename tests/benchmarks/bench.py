"""`make bench`: what a request and a chunk cost, in CPU time and in delay. Under five minutes.

The gateway runs as an operator runs it, with keys, the ledger and all the rest, on a core of its own.
Beside it, in turns with it, runs a bare relay: what the stack costs on this machine, today. CPU time is
that of the whole process, from the kernel's scheduler, and hardly depends on what else is running.
"""

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
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

from tests.benchmarks.chart import draw
from tests.benchmarks.load import Heard, Load, make
from tests.servers.gateway import Gateway

PACED = (1, 10, 50, 200, 500)
"""Streams at a time. A chunk every 20 ms each: 50 tokens a second, as models write."""
REQUEST = Load(clients=16, answers=40, chunks=64, pause=0, stream=False)
STREAM = Load(clients=16, answers=40, chunks=1, pause=0)
FLOOD = Load(clients=16, answers=6, chunks=400, pause=0)
_LONGEST = 240.0
"""Seconds of all turns."""
CORES = sorted(os.sched_getaffinity(0))
OURS, THEIRS = {CORES[0]}, {CORES[-1]}
"""The core of what is measured, and that of the provider and the clients."""


@dataclass
class Target:
    name: str
    url: str
    model: str
    key: str
    pid: int
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def figure(self, name: str) -> float:
        return statistics.median(self.figures[name])


def paced(streams: int) -> Load:
    return Load(clients=streams, answers=1, chunks=100, pause=20)


def cpu(pid: int) -> float:
    """Microseconds that a process has run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1000


def resident(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def pin(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def child(*command: str, **env: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **env},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def targets(folder: Path) -> Iterator[list[Target]]:
    """The gateway and the relay, started and listening."""
    with ExitStack() as stack:
        provider = stack.enter_context(child(sys.executable, "-m", "tests.benchmarks.upstream"))
        assert provider.stdout is not None
        upstream = f"http://127.0.0.1:{int(provider.stdout.readline())}"
        pin(provider.pid, THEIRS)
        config = f"providers:\n  b:\n    type: openai\n    base_url: {upstream}/v1\n"
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
            Target("sluice", gateway.url, "b/", gateway.key(), gateway.pid),
            Target("relay", f"http://127.0.0.1:{port}", "", "none", relay.pid),
        ]
        found[0].note("start", seconds)
        for target in found:
            pin(target.pid, OURS)
        yield found


def unused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def wait(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    for _ in range(300):
        try:
            asyncio.run(_knock(host, int(port)))
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing listens on {url}")


async def _knock(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def measure(target: Target, load: Load) -> tuple[float, Heard]:
    """Microseconds, with what is done after the last answer."""
    before = cpu(target.pid)
    heard = await make(load, target.url, target.model, target.key)
    await asyncio.sleep(0.2)
    return cpu(target.pid) - before, heard


async def run(found: Sequence[Target], repeats: int) -> None:
    for target in found:
        target.note("idle MB", resident(target.pid))
        await measure(target, STREAM)  # warm
        await measure(target, REQUEST)
    began = time.monotonic()
    for turn in range(repeats):
        for target in found if turn % 2 == 0 else reversed(found):
            for name, load in (("request", REQUEST), ("stream", STREAM)):
                spent, heard = await measure(target, load)
                target.note(name, spent / heard.answers)
            await _chunks(target, "flood", FLOOD)
            for streams in PACED:
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
    sluice, relay = found
    cost = Table("CPU, µs", "sluice", "relay", "ratio", title="Cost")
    rows = {
        "a request, 16 at a time": "request",
        "a stream of one chunk, 16 at a time": "stream",
        "a chunk, as fast as it goes": "flood",
        **{f"a chunk every 20 ms, {n} streams": f"paced {n}" for n in PACED},
    }
    for label, name in rows.items():
        ours, theirs = sluice.figure(name), relay.figure(name)
        cost.add_row(label, f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}")
    console.print(cost)
    delay = Table("ms, p50 / p99", "sluice", "relay", title="Delay, the way to either included")
    for streams in PACED:
        for kind, what in (("first", "to the first chunk"), ("delay", "of a chunk")):
            name = f"paced {streams} {kind}"
            delay.add_row(
                f"{what}, {streams} streams",
                *(f"{t.figure(name + ' p50'):.2f} / {t.figure(name + ' p99'):.2f}" for t in found),
            )
    console.print(delay)
    console.print(
        f"The gateway listened after {sluice.figure('start'):.1f} s, held "
        f"{sluice.figure('idle MB'):.0f} MB then and {sluice.figure('MB after'):.0f} MB at the end."
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--chart", type=Path, default=Path("docs/performance.svg"))
    chosen = options.parse_args()
    pin(os.getpid(), THEIRS)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with targets(folder) as found:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run(found, chosen.repeats))
            show(found, Console(width=100))
            chosen.chart.write_text(
                draw(
                    {t.name: {n: t.figure(f"paced {n}") for n in PACED} for t in found},
                    {t.name: {n: t.figure(f"paced {n} delay p99") for n in PACED} for t in found},
                )
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
