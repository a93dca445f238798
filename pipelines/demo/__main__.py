"""`python -m pipelines.demo`: see `make demo`."""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from binlogsync.errors import BinlogSyncError
from pipelines.demo.check import check
from pipelines.demo.stack import ROOT, Stack, dagster, ignored_variables, servers
from pipelines.demo.workload import DemoWorkload, create


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code."""
    options = _parse(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    begun = time.monotonic()
    _say(_what_is_ignored())
    try:
        _say("compiling the decoder's kernels, if this is the first time ...")
        for module in ("binlogsync.tail.run", "binlogsync.sinks.jetstream", "binlogsync.consume.engine"):
            import_module(module)
        _say("starting MySQL and NATS ...")
        with servers(options.dir) as (mysql, nats):
            create(mysql)
            workload = DemoWorkload(mysql, options.rate)
            _say(f"MySQL {mysql.version} and NATS run; {options.rate:g} changes a second; starting Dagster ...")
            with dagster(mysql, nats, options.dir, options.port, _say) as stack, workload:
                code = (
                    _checked(stack, options.deadline, stop) if options.check else _watched(stack, stop, options.seconds)
                )
                _say(f"stopping: {workload.changes:,} changes were made")
            _say("stopping MySQL and NATS")
    except BinlogSyncError as error:
        _say(f"{type(error).__name__}: {error}")
        return 1
    _say(f"stopped after {time.monotonic() - begun:.0f} s; the files are in {options.dir}")
    return code


def _what_is_ignored() -> str:
    """The demo must never meet the servers that the user's settings name; says so."""
    names = [*(["the file .env"] if (ROOT / ".env").exists() else []), *ignored_variables()]
    found = f"; ignored: {', '.join(names)}" if names else ""
    return f"private servers only: no .env and no BINLOGSYNC_ variable of the environment is read{found}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.demo", description="The whole of binlogsync on this machine."
    )
    parser.add_argument("--check", action="store_true", help="prove that a row comes through, and leave")
    parser.add_argument("--rate", type=float, default=5.0, metavar="N", help="changes a second (5)")
    parser.add_argument("--port", type=int, default=0, help="of Dagster's UI (3000, or another when it is taken)")
    parser.add_argument("--dir", type=Path, default=ROOT / ".demo", help="for all files; emptied at the start (.demo)")
    parser.add_argument("--seconds", type=float, default=None, metavar="S", help="stop by itself after so long")
    parser.add_argument("--deadline", type=float, default=240.0, metavar="S", help="for --check (240)")
    options = parser.parse_args(arguments)
    if options.rate <= 0:
        parser.error("--rate has to be above 0")
    options.dir = options.dir.resolve()
    return options


def _checked(stack: Stack, deadline_s: float, stop: threading.Event) -> int:
    """--check: follow one row."""
    result = check(stack, deadline_s, stop, _say)
    _print(
        f"OK: tail STARTED after {result.started_s:.1f} s; commit to stream {result.stream_s:.1f} s; "
        f"commit to mirror {result.mirror_s:.1f} s"
    )
    return 0


def _watched(stack: Stack, stop: threading.Event, seconds: float | None) -> int:
    """Say what to look at, and wait for Ctrl-C, or for the time to be over."""
    _print(
        f"""
Dagster's UI comes up at {stack.ui} (10 to 20 seconds). Look at:
  {stack.ui}/asset-groups            lineage: MySQL's tables, the stream's, what is made of them
  {stack.ui}/runs                    the tail's run, started and watched by its sensor; press Terminate, it flushes
  {stack.ui}/assets/mysql/main/binlog   press Plots: lag and rates of the tail, after a minute or so
  {stack.ui}/automation              the sensors: one keeps the tail alive, one watches the tables' backlogs
The tables, as they are in MySQL:
  {sys.executable} -c "import duckdb; \
    duckdb.connect('{stack.warehouse}', read_only=True).sql('FROM shop.orders ORDER BY id DESC LIMIT 5').show()"
Every change and every flush: {stack.audit}
What Dagster says: {stack.dagster_log}
Ctrl-C stops everything."""
    )
    deadline = None if seconds is None else time.monotonic() + seconds
    while not stop.wait(0.5):
        if stack.dagster.poll() is not None:
            _say(f"dagster dev has ended; see {stack.dagster_log}")
            return 1
        if deadline is not None and time.monotonic() > deadline:
            break
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"demo: {text}\n")
    sys.stderr.flush()


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
