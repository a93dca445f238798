"""`python -m pipelines.demo`: see `make demo`."""

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from binlogsync.errors import BinlogSyncError
from binlogsync.signals import stop_on_signals
from pipelines.demo.check import check
from pipelines.demo.stack import ROOT, Stack, dagster, ignored_variables, start_servers
from pipelines.demo.workload import DemoWorkload, create


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns the exit code."""
    options = _parse(arguments)
    with stop_on_signals() as stop:
        return _run(options, stop)


def _run(options: argparse.Namespace, stop: threading.Event) -> int:
    begun = time.monotonic()
    _log(_describe_ignored())
    try:
        _log("compiling the kernels, if they are not cached ...")
        for module in ("binlogsync.tail.run", "binlogsync.sinks.jetstream", "binlogsync.consume.engine"):
            import_module(module)
        _log("starting MySQL and NATS ...")
        with start_servers(options.dir) as (mysql, nats):
            create(mysql)
            workload = DemoWorkload(mysql, options.rate)
            _log(f"MySQL {mysql.version} and NATS run; {options.rate:g} changes per second; starting Dagster ...")
            with dagster(mysql, nats, options.dir, options.port, _log) as stack, workload:
                if options.check:
                    code = _run_check(stack, options.deadline, stop)
                else:
                    code = _wait_for_end(stack, stop, options.seconds)
                _log(f"stopping after {workload.changes:,} changes")
            _log("stopping MySQL and NATS")
    except BinlogSyncError as error:
        _log(f"{type(error).__name__}: {error}")
        return 1
    _log(f"stopped after {time.monotonic() - begun:.0f} s; the files are in {options.dir}")
    return code


def _describe_ignored() -> str:
    """Settings that the demo ignores, so that it never connects to the user's servers."""
    names = [*(["the file .env"] if (ROOT / ".env").exists() else []), *ignored_variables()]
    found = f"; ignored: {', '.join(names)}" if names else ""
    return f"private servers only: the demo reads neither .env nor BINLOGSYNC_ variables{found}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.demo", description="Run all of binlogsync on this machine, with a workload."
    )
    parser.add_argument("--check", action="store_true", help="follow one row from MySQL to its mirror, then exit")
    parser.add_argument("--rate", type=float, default=5.0, metavar="N", help="changes per second (5)")
    parser.add_argument(
        "--port", type=int, default=0, help="port of Dagster's UI (3000, or another one if it is in use)"
    )
    parser.add_argument(
        "--dir", type=Path, default=ROOT / ".demo", help="folder for all files; emptied at start (.demo)"
    )
    parser.add_argument("--seconds", type=float, default=None, metavar="S", help="stop after this time")
    parser.add_argument("--deadline", type=float, default=240.0, metavar="S", help="time limit of --check (240)")
    options = parser.parse_args(arguments)
    if options.rate <= 0:
        parser.error("--rate must be above 0")
    options.dir = options.dir.resolve()
    return options


def _run_check(stack: Stack, deadline_s: float, stop: threading.Event) -> int:
    """Run --check, and print the times."""
    result = check(stack, deadline_s, stop, _log)
    _write(
        f"OK: tail STARTED after {result.started_s:.1f} s; commit to stream {result.stream_s:.1f} s; "
        f"commit to mirror {result.mirror_s:.1f} s"
    )
    return 0


def _wait_for_end(stack: Stack, stop: threading.Event, seconds: float | None) -> int:
    """Print what to open in the UI, and wait for Ctrl-C or the end of the time."""
    _write(
        f"""
Dagster's UI starts at {stack.ui} (10 to 20 seconds). Open:
  {stack.ui}/asset-groups            lineage: MySQL tables, stream, consumers
  {stack.ui}/runs                    the run of the tail, started by its sensor; Terminate stops it after a flush
  {stack.ui}/assets/mysql/main/binlog   Plots: lag and rates of the tail, after about a minute
  {stack.ui}/automation              the sensors: one keeps the tail alive, one starts consumers for a backlog
The mirrored tables:
  {sys.executable} -c "import duckdb; \
    duckdb.connect('{stack.warehouse}', read_only=True).sql('FROM shop.orders ORDER BY id DESC LIMIT 5').show()"
Every change and every flush: {stack.audit}
The log of Dagster: {stack.dagster_log}
Ctrl-C stops everything."""
    )
    deadline = None if seconds is None else time.monotonic() + seconds
    while not stop.wait(0.5):
        if stack.dagster.poll() is not None:
            _log(f"dagster dev has ended; see {stack.dagster_log}")
            return 1
        if deadline is not None and time.monotonic() > deadline:
            break
    return 0


def _log(text: str) -> None:
    sys.stderr.write(f"demo: {text}\n")
    sys.stderr.flush()


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
