"""The source files that a compiled kernel depends on: its own, and those of the parts that it calls.

Numba's cache compares a kernel with its own file only; both compilers of kernels add the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any


def source_stamp(function: Callable[..., Any]) -> tuple[tuple[str, int, int], ...]:
    """Path, modification time and size of each source file that a kernel, or a part, is compiled from."""
    files = {inspect.getfile(one) for one in (function, *find_parts(function))}
    stats = [(file, Path(file).stat()) for file in sorted(files)]
    return tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats)


def find_parts(function: Callable[..., Any]) -> set[Callable[..., Any]]:
    """The functions of the parts that a kernel, or a part, calls, directly or through others."""
    found: set[Callable[..., Any]] = set()
    todo = [function]
    while todo:
        for part in _called_parts(todo.pop()):
            if part not in found:
                found.add(part)
                todo.append(part)
    return found


def _called_parts(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The functions of the parts that it refers to, by name or as an attribute of a module."""
    code, names = function.__code__, function.__globals__
    known = [names[name] for name in code.co_names if name in names]
    for module in [value for value in known if isinstance(value, ModuleType)]:
        known += [getattr(module, name, None) for name in code.co_names]
    for value in known:
        part = getattr(value, "py_func", None)
        if part is not None:
            yield part
