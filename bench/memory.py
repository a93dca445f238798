"""`make bench-memory`: measures the peak memory of a tail with a small and a large backlog.

The backlog consists of large transactions that fill a table and empty it again. A separate process runs the tail into
JetStream and prints its peak memory. Memory must be bounded: ten times the backlog must not need more.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import report
from bench.readers import tail_into_jetstream
from bench.workload import backlog
from binlogsync import servers
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.sinks.jetstream import JetStreamOptions

_FREE_TIMES = 1.5  # the binlog, plus the table and the stream
_STREAM_BYTES = 256 << 20


def main() -> None:
    """Create each backlog, tail it, and print the peaks and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--small", type=float, default=0.5, metavar="GB")
    parser.add_argument("--large", type=float, default=5.0, metavar="GB")
    parser.add_argument("--format", default="json", choices=("json", "arrow"))
    parser.add_argument("--tail", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tail:
        _tail(json.loads(options.tail))
        return
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < options.large * _FREE_TIMES:
        raise SystemExit(f"{free:.0f} GB free in {tempfile.gettempdir()}; {options.large * _FREE_TIMES:.0f} needed")
    peaks = {}
    for gigabytes in (options.small, options.large):
        peaks[gigabytes] = _measure(gigabytes, options.format)
    growth = peaks[options.large] / peaks[options.small]
    _log(f"{options.large:g} GB need {growth:.2f} times the memory of {options.small:g} GB")
    report.write(
        {
            "rss_growth": round(growth, 3),
            "rss_peak_mb": {f"{gigabytes:g} GB": round(peak) for gigabytes, peak in peaks.items()},
            "rss_format": options.format,
        }
    )


def _measure(gigabytes: float, format_: str) -> float:
    """Peak memory in MB of a tail with a backlog of this size."""
    with (
        servers.mysql(options={"innodb_flush_log_at_trx_commit": "0", "sync_binlog": "0"}) as mysql,
        servers.nats() as nats,
    ):
        _log(f"making {gigabytes:g} GB of binlog ...")
        changes = backlog(mysql.connect(), int(gigabytes * 1e9))
        order = {"port": mysql.port, "host": mysql.host, "user": mysql.user, "password": mysql.password}
        order |= {"url": nats.url, "changes": changes, "format": format_}
        begun = time.perf_counter()
        command = [sys.executable, "-m", "bench.memory", "--tail", json.dumps(order)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
        peak = float(done.stdout)
        seconds = time.perf_counter() - begun
        _log(f"{gigabytes:g} GB, {changes:,} changes, {format_}: peak {peak:,.0f} MB, {seconds:.0f} s")
    return peak


def _tail(order: dict[str, str]) -> None:
    """In the child process: tail the whole backlog, and print the peak resident memory in MB."""
    config = MySQLConfig(
        host=order["host"],
        port=int(order["port"]),
        user=order["user"],
        password=order["password"],
        tls=TLS("disabled"),
    )
    options = JetStreamOptions(url=order["url"], format=order["format"], max_bytes=_STREAM_BYTES)  # type: ignore[arg-type]
    tail_into_jetstream(config, options, "memory", int(order["changes"]))
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}\n")


def _log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


if __name__ == "__main__":
    main()
