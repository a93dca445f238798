"""Medians, ratios, a table for people and a file for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.readers import Reading

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Line:
    """One way to read one workload: what each repetition took."""

    way: str
    readings: Sequence[Reading]

    @property
    def seconds(self) -> float:
        """The median."""
        return median(reading.seconds for reading in self.readings)

    def rate(self, changes: int) -> float:
        """Changes a second."""
        return changes / self.seconds


def table(workload: str, changes: int, size: int, lines: Mapping[str, Line]) -> str:
    """The lines of one workload side by side, each with its ratio to the floor and to mysql-replication."""
    floor, baseline = lines["floor"], lines["mysql-replication"]
    rows = [
        f"{workload}: {changes:,} changes, {size / 1e6:,.0f} MB of binlog, {len(floor.readings)} repetitions, medians"
    ]
    rows.append(f"  {'':34}{'seconds':>9}{'changes/s':>14}{'of the floor':>14}{'x mysql-repl.':>15}")
    for line in lines.values():
        ratio, times = floor.seconds / line.seconds, baseline.seconds / line.seconds
        rows.append(f"  {line.way:34}{line.seconds:9.3f}{line.rate(changes):14,.0f}{ratio:14.2f}{times:15.1f}")
    return "\n".join(rows)


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    return {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}


def write(results: Mapping[str, object]) -> None:
    """Keep the numbers in bench/results.json."""
    RESULTS.write_text(json.dumps({**results, "measured_on": machine()}, indent=2) + "\n")
