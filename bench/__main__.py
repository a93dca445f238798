"""`make bench`: measures every variant three times, for both workloads, on one MySQL and one nats-server.

The variants are interleaved, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from bench import handling, readers, report, streaming
from bench.compiling import compile_kernels
from bench.readers import Measurement
from bench.report import MeasurementSeries
from bench.streaming import StreamSetup
from bench.workload import BULK, OLTP, BenchmarkWorkload, fill
from binlogsync import servers
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.servers.mysql import MySQLServer
from binlogsync.servers.nats import NATSServer

_SHORT_FLUSH_S = 0.05
_QUICK_TIMES = 5
"""Repeats of short measurements (a tenth of a second) within each repetition."""


@dataclass(frozen=True, slots=True)
class BenchmarkServers:
    """The servers used by all measurements."""

    mysql: MySQLServer
    nats: NATSServer

    @property
    def config(self) -> MySQLConfig:
        """Connection settings of MySQL."""
        server = self.mysql
        return MySQLConfig(
            host=server.host, port=server.port, user=server.user, password=server.password, tls=TLS("disabled")
        )


def main() -> None:
    """Run the benchmarks, print the results, and write results.json."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--bulk", type=int, default=330_000, metavar="CHANGES", help="changes of the bulk workload")
    parser.add_argument("--oltp", type=int, default=200_000, metavar="CHANGES", help="one-row transactions")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, object] = {}
    with (
        servers.mysql(options={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as mysql,
        servers.nats() as nats,
    ):
        running = BenchmarkServers(mysql, nats)
        for workload, changes in ((BULK, options.bulk), (OLTP, options.oltp)):
            results |= _measure(running, workload, changes, options.repetitions)
        results |= _measure_delays(running)
    results |= _measure_compile_time()
    results |= report.overall(results, (BULK.name, OLTP.name))
    report.write(results, keep="rss_")
    _log(f"written to {report.RESULTS.name}")


def _measure(
    servers: BenchmarkServers, workload: BenchmarkWorkload, wanted: int, repetitions: int
) -> dict[str, object]:
    """Measure all variants of one workload."""
    _log(f"filling the binlog with {wanted:,} changes ({workload.name}) ...")
    changes = fill(servers.mysql.connect(), workload, wanted)
    config = servers.config
    warm = readers.read_decoded(config)  # compiles the kernels, if they are not cached
    setup = StreamSetup(config, servers.nats.url, workload.name, changes)
    ready = streaming.prepare_messages(setup)
    decoding: dict[str, list[Measurement]] = {"floor": [], "decode": [], "mysql-replication": []}
    streams: dict[str, list[Measurement]] = {}
    for repetition in range(1, repetitions + 1):
        for _ in range(_QUICK_TIMES):
            decoding["floor"].append(readers.read_floor(config))
            decoding["decode"].append(readers.read_decoded(config))
        for name, reading in streaming.run(setup, ready):
            streams.setdefault(name, []).append(reading)
            _log(f"  {repetition}/{repetitions} {name}: {reading.changes / reading.seconds:,.0f} changes/s")
        decoding["mysql-replication"].append(readers.read_with_mysql_replication(config, workload.slow_reader_changes))
        _log(f"  {repetition}/{repetitions} mysql-replication: {decoding['mysql-replication'][-1].seconds:.1f} s")
    read = {name: MeasurementSeries(report.VARIANTS[name], readings) for name, readings in decoding.items()}
    sent = {name: MeasurementSeries(report.VARIANTS.get(name, name), readings) for name, readings in streams.items()}
    _print(
        f"{workload.name}: {changes:,} changes, {warm.bytes / 1e6:,.0f} MB of binlog; medians of {repetitions}",
        report.decoding_table(read),
        report.bare_table("the whole tail into JetStream", [(sent[n], sent[f"{n}_bare"]) for n in streaming.FORMATS]),
        report.bare_table(
            "against a loop without atomic batches or fencing",
            [(sent[n], sent[f"{n}_single"]) for n in streaming.SINGLY],
        ),
        report.bare_table(
            "from the stream into DuckDB", [(sent[f"mirror_{n}"], sent[f"fetch_{n}"]) for n in streaming.MIRRORED]
        ),
        report.rate_table("from arrow into a handler with a model", [sent["handler_change"], sent["handler_frame"]]),
    )
    return report.numbers(workload.name, read, sent)


def _measure_delays(servers: BenchmarkServers) -> dict[str, object]:
    """Measure the delay from commit to handler, with the default flush interval and with a short one."""
    found: dict[str, object] = {}
    for interval_s, name in ((3.0, "default"), (_SHORT_FLUSH_S, "short")):
        middle, most = handling.measure_delays(servers.config, servers.nats.url, interval_s)
        found |= {f"delay_{name}_median_s": round(middle, 3), f"delay_{name}_p99_s": round(most, 3)}
        _print(
            f"commit to handler at {handling.RATE} changes/s, a flush every {interval_s:g} s: "
            f"median {middle:.3f} s, p99 {most:.3f} s"
        )
    return found


def _measure_compile_time() -> dict[str, object]:
    first, cached = compile_kernels()
    _print(f"kernels: {first:.1f} s to compile in a first run, {cached:.2f} s to load when cached")
    return {"kernel_compile_s": round(first, 2), "kernel_cached_s": round(cached, 2)}


def _log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def _print(*texts: str) -> None:
    sys.stdout.write("\n" + "\n\n".join(texts) + "\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
