"""How long the kernels take to compile in a first run, and to load when they are cached: each in a process of its own.

The processor's time is measured, which is one thread's: what else the machine does is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# What they need is imported before the clock starts.
_IMPORT = """
import time
import msgspec, nats.js.api, numba, numpy, orjson, pandas, pyarrow, pyarrow.compute, sqlglot, zstandard
begun = time.process_time()
import binlogsync.binlog.reader, binlogsync.wire.envelope, binlogsync.sinks.jetstream.protocol_text
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
