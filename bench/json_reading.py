"""`python -m bench.json_reading`: reads a stream with nats-py, into ChangeBatches, and into a DuckDB mirror.

For `json` with one change per message, `json` with 1,000, and `arrow`; the variants are interleaved. CPU time for each
change is that of this process, and of nats-server. A busy machine changes the rates more than CPU times.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from bench import mirroring
from bench.readers import Measurement, tail_into_jetstream
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


def main() -> None:
    """Fill one stream for each format, read each in every way, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.json_reading", description=__doc__)
    parser.add_argument("--changes", type=int, default=200_000)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[Measurement, float]]] = {}
    with servers.nats() as nats:
        changes = _fill(nats.url, options.changes)
        for repetition in range(options.repetitions + 1):
            for key in itertools.product(FORMATS, _VARIANTS):
                server = _server_cpu(nats)
                reading = _VARIANTS[key[1]](nats.url, key[0], changes)
                if repetition:  # the first one also compiles or loads the kernels
                    found.setdefault(key, []).append((reading, _server_cpu(nats) - server))
    sys.stdout.write(
        f"{'':26}{'changes/s':>12}{'x fetch':>9}{'us of CPU':>12}{'x fetch':>9}{'us of nats-server':>20}\n"
    )
    for (name, variant), readings in found.items():
        fetch = found[name, "fetch"]
        seconds, cpu = _medians(readings)
        fetch_s, fetch_cpu = _medians(fetch)
        server = median(server for _, server in readings)
        sys.stdout.write(
            f"{name:14}{variant:12}{changes / seconds:12,.0f}{fetch_s / seconds:9.1f}{cpu / changes * 1e6:12.2f}"
            f"{fetch_cpu / cpu:9.1f}{server / changes * 1e6:20.2f}\n"
        )


def _medians(readings: Sequence[tuple[Measurement, float]]) -> tuple[float, float]:
    """Duration and CPU seconds."""
    return median(reading.seconds for reading, _ in readings), median(reading.cpu_s for reading, _ in readings)


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


def _server_cpu(nats: NATSServer) -> float:
    """CPU seconds that nats-server has used."""
    fields = Path(f"/proc/{nats.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _fetch(url: str, source: str, changes: int) -> Measurement:
    return mirroring.measure_fetch(url, source, BULK.name, changes)


def _decode(url: str, source: str, changes: int) -> Measurement:
    """Read the table into ChangeBatches, and drop them."""
    with StreamReader(NatsOptions(url=url), source) as reader:
        reader.ensure_durable(_DURABLE, DATABASE, BULK.name, 1)
        begun, cpu, done = time.perf_counter(), time.process_time(), 0
        while done < changes:
            done += sum(len(batch) for batch in reader.fetch(_DURABLE, _FETCHED))
        found = Measurement(time.perf_counter() - begun, 0, done, time.process_time() - cpu)
        reader.delete_durable(_DURABLE)
    return found


def _mirror(url: str, source: str, changes: int) -> Measurement:
    found = mirroring.measure_mirror(url, source, BULK.name, changes)
    with StreamReader(NatsOptions(url=url), source) as reader:
        for durable in reader.pending_counts():
            reader.delete_durable(durable)
    return found


_VARIANTS: dict[str, Callable[[str, str, int], Measurement]] = {"fetch": _fetch, "decode": _decode, "mirror": _mirror}

if __name__ == "__main__":
    main()
