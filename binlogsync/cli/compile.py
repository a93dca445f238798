"""`binlogsync compile`: compile all kernels into numba's cache, so that the first run starts at once."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time

from binlogsync.errors import ConfigError
from binlogsync.progress_bar import ProgressBar
from binlogsync.settings import Settings

MODULES = (
    "binlogsync.binlog.event_index",
    "binlogsync.binlog.event_scan",
    "binlogsync.binlog.numbering",
    "binlogsync.binlog.source_columns",
    "binlogsync.binlog.types.labels",
    "binlogsync.binlog.rows",
    "binlogsync.codec.envelope_program",
    "binlogsync.codec.envelope_writer",
    "binlogsync.codec.image_kernel",
    "binlogsync.codec.span_kernels",
    "binlogsync.codec.span_parts",
    "binlogsync.mysql.result_set.decoding",
    "binlogsync.nats.frame_kernel",
    "binlogsync.nats.protocol_text",
)
"""The modules with kernels, which compile them when they are imported."""


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Import all modules with kernels. Raises ConfigError if their kernels cannot be cached."""
    logging.getLogger("binlogsync.binlog.compiling").setLevel(logging.ERROR)
    bar, begun = ProgressBar("compiling"), time.monotonic()
    for number, module in enumerate(MODULES):
        bar.update(number / len(MODULES), module)
        importlib.import_module(module)
    kernels = importlib.import_module("binlogsync.binlog.compiling").KERNELS
    compiled = sum(bool(kernel.stats.cache_misses) for kernel in kernels)
    folders = sorted({str(kernel.stats.cache_path) for kernel in kernels if kernel.stats.cache_path})
    bar.done(f"{compiled} of {len(kernels)} kernels in {time.monotonic() - begun:.1f} s")
    if any(not kernel.stats.cache_path for kernel in kernels):
        raise ConfigError("the kernels cannot be cached: set NUMBA_CACHE_DIR to a folder that the user may write to")
    sys.stdout.write("".join(f"{folder}\n" for folder in folders))
    return 0
