"""Kernels that tests call from Python."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from binlogsync.binlog.compiling import compile_standalone


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, compiled at its first call: each worker of a test run imports all tests, and calls few kernels."""
    compile_once = cache(lambda: compile_standalone(kernel))
    return lambda *arguments: compile_once()(*arguments)
