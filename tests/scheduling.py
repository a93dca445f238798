"""How pytest-xdist divides the test files among its workers (`--dist loadfile`).

A worker gets whole files, in the order of the collection. When no file is left, the workers that have finished wait for
the others: so the long files come first.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Measured with `--durations`. A file that is missing here costs time at the end of a run, and nothing else.
_LONGEST_LATER = (
    "targets/test_duckdb_store.py",
    "cli/test_commands.py",
    "sinks/test_jetstream_in_flight.py",
    "binlog/test_broken_input.py",
    "codec/test_rendered_images.py",
    "binlog/exact/test_type_samples.py",
    "sinks/test_jetstream.py",
    "consume/test_consume.py",
    "binlog/exact/test_generated_rows.py",
    "mirror/test_verify_text.py",
    "consume/test_published_rows.py",
    "targets/test_duckdb_names.py",
    "consume/test_many_tables.py",
    "consume/test_consumer.py",
    "binlog/test_kernels.py",
    "mirror/test_mirror_ddl.py",
    "consume/test_continuous.py",
    "sinks/test_audit.py",
    "codec/test_envelope_reader.py",
    "stores/test_processes.py",
    "binlog/test_metadata.py",
    "codec/test_envelope_batch.py",
    "servers/test_servers.py",
    "dagster_binlogsync/test_tail_job.py",
    "binlog/test_reader.py",
    "test_flush.py",
    "mysql/test_start.py",
    "binlog/test_optional_metadata.py",
    "binlog/test_cases.py",
    "mirror/test_mirror.py",
    "test_position_order.py",
    "mirror/test_mirror_policies.py",
    "dagster_binlogsync/test_component.py",
    "mysql/test_validate.py",
    "binlog/test_compiling.py",
    "mysql/result_set/test_reader.py",
    "mysql/test_readahead.py",
    "consume/test_continuous_loads.py",
    "mysql/test_session.py",
    "dagster_binlogsync/test_remove_job.py",
    "cli/test_models.py",
)
# Beginnings of the names of files that share a fixture which takes longer than their tests: one worker gets them all.
_SHARING = ("tests/e2e/test_backfill_",)
_ROOT = Path(__file__).parent


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Whole files; those that share an expensive fixture of the session together."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for name in _SHARING if nodeid.startswith(name)), super()._split_scope(nodeid))

    def remove_node(self, node: Any) -> str | None:
        """Remove a worker that ended; returns the test that it ran.

        The others get its remaining tests: without the one that it ran, which would end them too.
        """
        units = self.assigned_work[node]
        pending = [(unit, test) for unit in units.values() for test, is_done in unit.items() if not is_done]
        ended_in: str | None = None
        if pending:
            unit, ended_in = pending[0]
            unit[ended_in] = True
        self.assigned_work[node] = {name: unit for name, unit in units.items() if not all(unit.values())}
        super().remove_node(node)
        return ended_in

    def _reschedule(self, node: Any) -> None:
        """Give a worker more tests, once it has collected them: one that replaces another needs some seconds."""
        if node in self.registered_collections:
            super()._reschedule(node)


@cache
def _relative(path: Path) -> str:
    return path.relative_to(_ROOT).as_posix()


def _is_scenario(path: str) -> bool:
    return path.startswith(("e2e/", "browser/"))


def order_of(item: pytest.Item) -> int:
    """The key by which tests are sorted: the folders of long files, then the longest other files, then the rest.

    With a time limit the rest comes first: three fifths of the tests, in a sixth of the time.
    """
    path = _relative(item.path)
    if _is_scenario(path):
        return 1 if "_killed" in path else 2  # no run leaves out the kills of a tail
    if path in _LONGEST_LATER:
        return 3 + _LONGEST_LATER.index(path)
    return 0 if "TEST_UNTIL" in os.environ else 3 + len(_LONGEST_LATER)


def check_time(item: pytest.Item) -> None:
    """Skip a test that begins after the time limit of a run, in seconds since 1970; scenarios have an earlier one.

    Continuous integration has a limit for the whole run. A machine that is too slow for it leaves out the last tests,
    which pytest counts as skipped, with this reason.
    """
    is_scenario = _is_scenario(_relative(item.path))
    for name in ("TEST_UNTIL", *(("TEST_SCENARIOS_UNTIL",) if is_scenario else ())):
        if time.time() > float(os.environ.get(name) or "inf"):
            pytest.skip(f"the time of this run is over ({name}): run `make test` without a limit")
