"""Compiles kernels with `numba.njit`, without private APIs: slower to compile and to load than fast_compiling.py.

Each part is compiled by itself, so a module defines one before what calls it.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import config, njit

from binlogsync.binlog.kernel_sources import source_stamp

_OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
_compile: Any = njit
_config: Any = config


def compile_kernel(function: Callable[..., Any], signature: Any, *, cache: bool, has_wrapper: bool) -> Any:
    """Compile a function of numbers for this signature, or load it from the cache."""
    with _cache_folder(function) as is_writable:
        return _compile(signature, cache=cache and is_writable, **_OPTIONS)(function)


def make_part(function: Callable[..., Any], signature: Any, *, apart: bool) -> Any:
    """A function that kernels call, compiled separately."""
    return compile_kernel(function, signature, cache=Path(inspect.getfile(function)).exists(), has_wrapper=True)


def compile_part(part: Any) -> Any:
    """Returns the part, which Python can call."""
    return part


def code_address(kernel: Any) -> int:
    """No address is needed: a kernel is called by its name."""
    return 0


def make_caller(kernel: Any) -> Any:
    """A function that other kernels call as f(address, (argument, ...)) to call this kernel."""

    def call(address, arguments):  # type: ignore[no-untyped-def]
        return kernel(*arguments)

    return _compile(**_OPTIONS)(call)


@contextmanager
def _cache_folder(function: Callable[..., Any]) -> Iterator[bool]:
    """Let numba cache in a separate folder for each state of the source files; False if it cannot be created."""
    given = _config.CACHE_DIR
    stamp = hashlib.sha256(repr(source_stamp(function)).encode()).hexdigest()[:16]
    base = Path(given) if given else Path(inspect.getfile(function)).parent / "__pycache__"
    folder = base / f"kernels-{stamp}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        yield False
        return
    _config.CACHE_DIR = str(folder)
    try:
        yield True
    finally:
        _config.CACHE_DIR = given
