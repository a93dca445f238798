"""`make bench`: both workloads on one MySQL and one nats-server, every way three times, in turn.

Ways are interleaved, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench import readers, report
from bench.readers import Reading
from bench.workload import BULK, OLTP, Workload, fill
from binlogsync import embedded
from binlogsync.embedded.mysql import MySQLServer
from binlogsync.embedded.nats import NATSServer
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.sinks.jetstream import JetStreamOptions


def main() -> None:
    """Run, print, and write results.json."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--bulk", type=int, default=330_000, metavar="CHANGES", help="changes of the bulk workload")
    parser.add_argument("--oltp", type=int, default=120_000, metavar="CHANGES", help="one-row transactions")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, object] = {}
    with (
        embedded.mysql(options={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as server,
        embedded.nats() as nats,
    ):
        for workload, changes in ((BULK, options.bulk), (OLTP, options.oltp)):
            results |= _measure(server, nats, workload, changes, options.repetitions)
    report.write(results)
    _say(f"written to {report.RESULTS.name}")


def _measure(
    server: MySQLServer, nats: NATSServer, workload: Workload, wanted: int, repetitions: int
) -> dict[str, object]:
    """One workload, every way."""
    _say(f"filling the binlog with {wanted:,} changes ({workload.name}) ...")
    changes = fill(server.connect(), workload, wanted)
    tls = TLS("disabled")
    config = MySQLConfig(host=server.host, port=server.port, user=server.user, password=server.password, tls=tls)
    sources = iter(range(1000))

    def tail(**settings: object) -> Reading:
        source = f"{workload.name}{next(sources)}"
        return readers.tail_into_jetstream(config, JetStreamOptions(url=nats.url, **settings), source, changes)  # type: ignore[arg-type]

    ways: dict[str, tuple[str, Callable[[], Reading]]] = {
        "floor": ("socket read and dropped (floor)", lambda: readers.read_floor(config)),
        "decode": ("binlogsync, decoded", lambda: readers.read_decoded(config)),
        "json": ("binlogsync, tail to JetStream, json", lambda: tail()),
        "json_batched": ("  1,000 changes a message", lambda: tail(changes_per_message=1000)),
        "arrow": ("  arrow", lambda: tail(format="arrow")),
        "mysql-replication": ("mysql-replication, decoded", lambda: readers.read_with_mysql_replication(config)),
    }
    readers.read_decoded(config)  # compiles what is not compiled yet
    readings: dict[str, list[Reading]] = {name: [] for name in ways}
    for repetition in range(1, repetitions + 1):
        for name, (way, run) in ways.items():
            readings[name].append(run())
            _say(f"  {repetition}/{repetitions} {way.strip()}: {readings[name][-1].seconds:.3f} s")
    lines = {name: report.Line(way, readings[name]) for name, (way, _) in ways.items()}
    size = readings["floor"][0].bytes
    _print(report.table(workload.name, changes, size, lines))
    prefix, decode = workload.name, lines["decode"]
    return {
        f"decode_{prefix}_vs_mysql_replication": round(lines["mysql-replication"].seconds / decode.seconds, 1),
        f"decode_{prefix}_vs_floor": round(lines["floor"].seconds / decode.seconds, 3),
        **{
            f"{prefix}_{name.replace('-', '_')}_changes_per_s": round(line.rate(changes))
            for name, line in lines.items()
        },
        f"{prefix}_seconds": {name: [round(r.seconds, 4) for r in line.readings] for name, line in lines.items()},
    }


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def _print(text: str) -> None:
    sys.stdout.write(f"\n{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
