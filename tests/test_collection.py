"""Objects that stay are left out of garbage collections."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
import duckdb
from binlogsync.collection import exempt_existing_objects

before = len(gc.get_objects())
exempt_existing_objects()
first = gc.get_freeze_count()
later = [[] for _ in range(1000)]
exempt_existing_objects()
connection = duckdb.connect()
print(before, first, gc.get_freeze_count() - first, len(gc.get_objects()) >= 1000)
"""


def test_later_collections_skip_what_is_there_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, exempt, more, has_later = done.stdout.split()
    assert int(exempt) > int(before) // 2
    assert (more, has_later) == ("0", "True")
    # DuckDB reports objects that are left when the interpreter ends.
    assert done.stderr == ""


WITH_PYARROW = """
import sys
import pyarrow
from binlogsync.collection import exempt_existing_objects

assert "pandas" not in sys.modules
exempt_existing_objects()
print("pandas" in sys.modules)
"""


def test_pandas_is_imported_before_the_loop_and_not_by_its_first_array() -> None:
    done = subprocess.run([sys.executable, "-c", WITH_PYARROW], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
