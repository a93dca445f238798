"""Small transactions on a DuckDB file that is opened for each of them: by `duckdb.connect`, and by DuckFile.

    python -m bench.file_transactions [TRANSACTIONS]

Each of TRANSACTIONS (200) sets one row of a table of 200,000 rows with a primary key. Prints the median time and the
CPU time of a transaction of each kind, which take turns, and their ratios.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import duckdb

from binlogsync.targets.duckdb.file import DuckFile

_ROWS = 200_000


def main(count: int) -> None:
    """Run both kinds."""
    with tempfile.TemporaryDirectory() as folder:
        opened, attached = Path(folder) / "opened.duckdb", DuckFile(Path(folder) / "attached.duckdb")
        for path in (opened, attached.path):
            with duckdb.connect(str(path)) as connection:
                connection.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
                connection.execute(f"INSERT INTO t SELECT i, 0 FROM range({_ROWS}) r(i)")

        def by_connect(number: int) -> None:
            with duckdb.connect(str(opened)) as connection:
                connection.execute(_statement(number))

        def by_file(number: int) -> None:
            with attached.transaction() as connection:
                connection.execute(_statement(number))

        kinds = {"duckdb.connect": by_connect, "DuckFile": by_file}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for number in range(count):
            for name, run in kinds.items():
                times[name].append(_measure(run, number))
    walls = {name: median(wall for wall, _ in found) for name, found in times.items()}
    cpus = {name: mean(cpu for _, cpu in found) for name, found in times.items()}
    for name in kinds:
        print(f"{name:15} median {walls[name] * 1e3:5.1f} ms, CPU {cpus[name] * 1e3:5.1f} ms")  # noqa: T201
    ratios = [found["duckdb.connect"] / found["DuckFile"] for found in (walls, cpus)]
    print(f"ratio           {ratios[0]:.1f} in time, {ratios[1]:.1f} in CPU time")  # noqa: T201


def _statement(number: int) -> str:
    return f"UPDATE t SET v = {number} WHERE id = {number * 997 % _ROWS}"


def _measure(run: Callable[[int], None], number: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU."""
    begun, cpu = time.perf_counter(), time.process_time()
    run(number)
    return time.perf_counter() - begun, time.process_time() - cpu


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
