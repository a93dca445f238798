"""`python -m bench.many_tables [TABLES...]`: CPU time to load the definitions of a source with many mirrors, of one
pattern, and to evaluate its backlog sensor once on a real NATS; default: 50, 500 and 1,500 tables of 20 columns.

Each number of tables is a process of its own. `load` is what a code server does: import, resolve the pattern, build
definitions and jobs; `snapshot` is what it then sends to the web server, with its size.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from binlogsync import servers
from binlogsync.table_list import ListedColumn, ListedTable, TableList, save_table_list

_COLUMNS = tuple(ListedColumn(f"column_{number}", "varchar(40)", comment="a comment") for number in range(20))
_ONE = "from bench.many_tables import measure_one; measure_one()"


def measure_one() -> None:
    """Print the line of one number of tables, for the environment that `main` sets."""
    from binlogsync.settings import Settings

    begun = time.process_time()
    import dagster as dg

    import dagster_binlogsync

    imported = time.process_time()
    settings = Settings.read()
    pattern = dagster_binlogsync.mirrors("shop.*")
    defs = dagster_binlogsync.build_definitions(settings, [pattern], replay_assets=False)
    repository = defs.get_repository_def()
    repository.load_all_definitions()
    loaded = time.process_time()
    from dagster._core.remote_representation.external_data import RepositorySnap

    size = len(dg.serialize_value(RepositorySnap.from_def(repository)))
    sent = time.process_time()
    tick_s = _measure_tick(defs)
    sys.stdout.write(
        f"{len(pattern.tables):6,} tables: load {loaded - begun:5.1f} s ({imported - begun:.1f} s of it imports), "
        f"snapshot {sent - loaded:4.1f} s for {size / 1e6:.1f} MB, tick {tick_s:.2f} s\n"
    )


def _measure_tick(defs: object) -> float:
    """Seconds of the second tick of the backlog sensor; the stream is empty."""
    import dagster as dg

    from dagster_binlogsync.resources.from_settings import build_jetstream, build_warehouse

    assert isinstance(defs, dg.Definitions)
    from binlogsync.settings import Settings

    settings = Settings.read()
    with build_jetstream(settings).process_config_and_initialize_cm() as stream, stream.sink() as sink:
        sink.open("main")
    resources = {
        "binlogsync_main_jetstream": build_jetstream(settings),
        "binlogsync_main_warehouse": build_warehouse(settings),
    }
    sensor = defs.resolve_sensor_def("consume_main")
    begun = 0.0
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            begun = time.perf_counter()
            with dg.build_sensor_context(instance=instance, resources=resources) as context:
                sensor.evaluate_tick(context)
    return time.perf_counter() - begun


def main() -> int:
    """Measure each number of tables."""
    counts = [int(text) for text in sys.argv[1:]] or [50, 500, 1500]
    with tempfile.TemporaryDirectory() as folder, servers.nats() as nats:
        for count in counts:
            lists = Path(folder) / str(count)
            tables = tuple(ListedTable("shop", f"table_{number:04}", _COLUMNS) for number in range(count))
            save_table_list(lists, TableList("main", datetime.now(UTC), tables))
            environment = {
                **os.environ,
                "BINLOGSYNC_TABLE_LISTS": str(lists),
                "BINLOGSYNC_NATS_URL": nats.url,
                "BINLOGSYNC_WAREHOUSE_PATH": str(lists / "warehouse.duckdb"),
            }
            subprocess.run([sys.executable, "-c", _ONE], env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
