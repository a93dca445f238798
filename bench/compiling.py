"""Measures the CPU time to compile all kernels in a first run, and to load them from the cache.

Each measurement runs in a separate process. CPU time is measured, so other load on the machine does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Dependencies are imported before the measurement starts.
_IMPORT = """
import time
import msgspec, nats.js.api, numba, numpy, orjson, pandas, pyarrow, pyarrow.compute, pymysql, pymysqlreplication
import sqlglot, zstandard
begun = time.process_time()
import binlogsync.binlog.reader, binlogsync.codec.envelope, binlogsync.nats.protocol_text, binlogsync.mysql.result_set
print(time.process_time() - begun)
"""


def compile_kernels() -> tuple[float, float]:
    """(seconds to compile all kernels with nothing cached, seconds to load them from the cache)."""
    with tempfile.TemporaryDirectory(prefix="bench-kernels-") as folder:
        return _import_all(folder), _import_all(folder)


def _import_all(cache: str) -> float:
    command = [sys.executable, "-c", _IMPORT]
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    root = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=root)
    return float(done.stdout)
