"""`python -m bench.json_reading`: reads a stream with nats-py, into ChangeBatches, and into a DuckDB mirror.

For `json` with one change per message, `json` with 1,000, and `arrow`; the variants are interleaved. CPU time for each
change is that of this process, and of nats-server. A busy machine changes the rates more than CPU times.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import mirroring
from bench.readers import tail_into_jetstream
from bench.streaming import FORMATS
from bench.workload import BULK, DATABASE, fill
from binlogsync import servers
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers.nats import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions

_DURABLE, _FETCHED = "reading", 10_000
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """Duration, and CPU seconds of this process and of nats-server."""

    seconds: float
    cpu_s: float
    server_cpu_s: float


def main() -> None:
    """Fill one stream for each format, read each in every way, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.json_reading", description=__doc__)
    parser.add_argument("--changes", type=int, default=200_000)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    found: dict[tuple[str, str], list[Reading]] = {}
    with servers.nats() as nats:
        changes = _fill(nats.url, options.changes)
        for repetition in range(options.repetitions + 1):
            for name in FORMATS:
                for variant, read in _VARIANTS.items():
                    reading = _measure(nats, lambda read=read, name=name: read(nats.url, name, changes))  # type: ignore[misc]
                    if repetition:  # the first one also compiles or loads the kernels
                        found.setdefault((name, variant), []).append(reading)
    sys.stdout.write(f"{'':14}{'':12}{'changes/s':>12}{'us of CPU':>12}{'x fetch':>10}{'us of nats-server':>20}\n")
    for (name, variant), readings in found.items():
        seconds, cpu, server = (
            median(getattr(reading, field) for reading in readings) for field in ("seconds", "cpu_s", "server_cpu_s")
        )
        fetch = median(reading.cpu_s for reading in found[name, "fetch"])
        row = f"{changes / seconds:12,.0f}{cpu / changes * 1e6:12.2f}{fetch / cpu:10.1f}{server / changes * 1e6:20.2f}"
        sys.stdout.write(f"{name:14}{variant:12}{row}\n")


def _fill(url: str, wanted: int) -> int:
    """Run the tail into one stream for each format; returns the number of changes."""
    options = {"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}
    with servers.mysql(options=options) as mysql:
        changes = fill(mysql.connect(), BULK, wanted)
        config = MySQLConfig(
            host=mysql.host, port=mysql.port, user=mysql.user, password=mysql.password, tls=TLS("disabled")
        )
        for name, own in FORMATS.items():
            tail_into_jetstream(config, JetStreamOptions(url=url, **own), name, changes)
    return changes


def _measure(nats: NATSServer, read: Callable[[], float]) -> Reading:
    cpu, server = time.process_time(), _server_cpu(nats)
    seconds = read()
    return Reading(seconds, time.process_time() - cpu, _server_cpu(nats) - server)


def _server_cpu(nats: NATSServer) -> float:
    """CPU seconds that nats-server has used."""
    fields = Path(f"/proc/{nats.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _fetch(url: str, source: str, changes: int) -> float:
    return mirroring.measure_fetch(url, source, BULK.name, changes).seconds


def _decode(url: str, source: str, changes: int) -> float:
    """Read the table into ChangeBatches, and drop them."""
    with StreamReader(NatsOptions(url=url), source) as reader:
        reader.ensure_durable(_DURABLE, DATABASE, BULK.name, 1)
        begun, done = time.perf_counter(), 0
        while done < changes:
            done += sum(len(batch) for batch in reader.fetch(_DURABLE, _FETCHED))
        seconds = time.perf_counter() - begun
        reader.delete_durable(_DURABLE)
    return seconds


def _mirror(url: str, source: str, changes: int) -> float:
    seconds = mirroring.measure_mirror(url, source, BULK.name, changes).seconds
    with StreamReader(NatsOptions(url=url), source) as reader:
        for durable in reader.pending_counts():
            reader.delete_durable(durable)
    return seconds


_VARIANTS: dict[str, Callable[[str, str, int], float]] = {"fetch": _fetch, "decode": _decode, "mirror": _mirror}

if __name__ == "__main__":
    main()
