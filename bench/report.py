"""Medians and ratios, as text tables and as results.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.readers import Measurement

VARIANTS = {
    "floor": "socket read and dropped (floor)",
    "decode": "binlogsync, decoded",
    "mysql-replication": "mysql-replication, decoded",
    "json": "json, one change per message",
    "json_batched": "json, 1,000 changes per message",
    "arrow": "arrow",
    "mirror_json": "json, one change per message",
    "mirror_arrow": "arrow",
    "handler_change": "a handler called for each change",
    "handler_frame": "a handler of DataFrames",
}
_OF_MIXED = (
    "mirror_arrow_changes_per_s",
    "mirror_json_vs_fetch",
    "handler_change_changes_per_s",
    "handler_frame_changes_per_s",
)
RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class MeasurementSeries:
    """All repetitions of one variant on one workload."""

    label: str
    readings: Sequence[Measurement]

    @property
    def seconds(self) -> float:
        """Median duration."""
        return median(reading.seconds for reading in self.readings)

    @property
    def per_second(self) -> float:
        """Median changes per second."""
        return self.readings[0].changes / self.seconds


def decoding_table(lines: Mapping[str, MeasurementSeries]) -> str:
    """A table of the readers, each with its ratio to the floor and to mysql-replication."""
    floor, baseline = lines["floor"], lines["mysql-replication"].per_second
    changes = lines["decode"].readings[0].changes
    rows = [f"  {'reading':40}{'seconds':>9}{'changes/s':>13}{'of the floor':>14}{'x mysql-repl.':>15}"]
    for line in lines.values():
        rate = line.per_second or changes / line.seconds  # the floor does not count changes
        of_floor, times = rate / (changes / floor.seconds), rate / baseline
        rows.append(f"  {line.label:40}{line.seconds:9.3f}{rate:13,.0f}{of_floor:14.2f}{times:15.1f}")
    return "\n".join(rows)


def bare_table(title: str, pairs: Sequence[tuple[MeasurementSeries, MeasurementSeries]]) -> str:
    """A table of our variants and the baselines with the same messages, and the ratios of their rates."""
    rows = [f"  {title:40}{'seconds':>9}{'changes/s':>13}{'bare loop':>14}{'of the bare':>15}"]
    for ours, bare in pairs:
        rates = f"{ours.per_second:13,.0f}{bare.per_second:14,.0f}{ratio(ours, bare):15.2f}"
        rows.append(f"  {ours.label:40}{ours.seconds:9.3f}{rates}")
    return "\n".join(rows)


def rate_table(title: str, lines: Sequence[MeasurementSeries]) -> str:
    """A table of rates without baselines."""
    rows = [f"  {title:40}{'seconds':>9}{'changes/s':>13}"]
    rows += [f"  {line.label:40}{line.seconds:9.3f}{line.per_second:13,.0f}" for line in lines]
    return "\n".join(rows)


def ratio(ours: MeasurementSeries, bare: MeasurementSeries) -> float:
    """Ratio of the rates: the median over repetitions that ran next to each other."""
    pairs = zip(ours.readings, bare.readings, strict=True)
    return median(one.changes / one.seconds / (two.changes / two.seconds) for one, two in pairs)


def numbers(
    workload: str, read: Mapping[str, MeasurementSeries], sent: Mapping[str, MeasurementSeries]
) -> dict[str, object]:
    """The results of one workload. Keys start with its name, except for two that other programs read."""
    decode, baseline = read["decode"], read["mysql-replication"]
    changes = decode.readings[0].changes  # the floor does not count changes
    found: dict[str, object] = {
        f"{workload}_floor_changes_per_s": round(changes / read["floor"].seconds),
        f"decode_{workload}_vs_mysql_replication": round(decode.per_second / baseline.per_second, 1),
        f"decode_{workload}_vs_floor": round(read["floor"].seconds / decode.seconds, 3),
    }
    for name in ("json", "json_batched", "arrow"):
        found[f"{workload}_{name}_vs_bare_publish"] = round(ratio(sent[name], sent[f"{name}_bare"]), 3)
    for name in ("json_batched", "arrow"):
        found[f"{workload}_{name}_vs_bare_single"] = round(ratio(sent[name], sent[f"{name}_single"]), 3)
    for name in ("json", "arrow"):
        found[f"{workload}_mirror_{name}_vs_fetch"] = round(ratio(sent[f"mirror_{name}"], sent[f"fetch_{name}"]), 3)
    for name, line in {"decode": decode, "mysql_replication": baseline, **sent}.items():
        found[f"{workload}_{name}_changes_per_s"] = round(line.per_second)
    found[f"{workload}_seconds"] = {
        name: [round(reading.seconds, 4) for reading in line.readings] for name, line in {**read, **sent}.items()
    }
    return found


def overall(results: Mapping[str, Any], workloads: Sequence[str]) -> dict[str, object]:
    """The numbers with targets: the lower one of both workloads, or, for some, that of the bulk workload."""
    lowest = (
        "json_vs_bare_publish",
        "json_batched_changes_per_s",
        "arrow_changes_per_s",
        "arrow_vs_bare_publish",
        "arrow_vs_bare_single",
    )
    found: dict[str, object] = {key: min(results[f"{name}_{key}"] for name in workloads) for key in lowest}
    for key in _OF_MIXED:
        found[key] = results[f"{workloads[0]}_{key}"]
    return found


def machine() -> dict[str, object]:
    """The machine of the measurements."""
    return {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}


def write(results: Mapping[str, object], keep: str = "") -> None:
    """Write bench/results.json. Existing numbers whose names start with `keep` are kept."""
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept = {name: value for name, value in old.items() if name.startswith(keep)}
    RESULTS.write_text(json.dumps({**kept, **results, "measured_on": machine()}, indent=2) + "\n")
