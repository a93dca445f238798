"""How pytest-xdist divides the test files among its workers (`--dist loadfile`).

A worker gets whole files, in the order of the collection. When no file is left, the workers that have finished wait for
the others: so the long files come first.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

# Measured with `--durations`. A file that is missing here costs time at the end of a run, and nothing else.
_LONGEST_LATER = (
    "cli/test_commands.py",
    "targets/test_duckdb_store.py",
    "consume/test_consume.py",
    "consume/test_consumer.py",
    "mirror/test_verify_text.py",
    "consume/test_published_rows.py",
    "dagster_binlogsync/test_tail_job.py",
    "dagster_binlogsync/test_component.py",
    "consume/test_many_tables.py",
    "mirror/test_mirror.py",
    "consume/test_continuous.py",
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


def order_of(item: pytest.Item) -> int:
    """The key by which tests are sorted: the folders of long files, then the longest other files, then the rest."""
    path = item.path.relative_to(_ROOT).as_posix()
    if path.startswith(("e2e/", "browser/")):
        return 0
    return 1 + (_LONGEST_LATER.index(path) if path in _LONGEST_LATER else len(_LONGEST_LATER))
