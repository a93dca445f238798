"""What a compiled kernel depends on: its source file, those of the parts that it calls, and constants of other modules.

Numba's cache compares a kernel with its own file only; both compilers of kernels add the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any


def source_stamp(function: Callable[..., Any]) -> tuple[tuple[object, ...], ...]:
    """Path, modification time and size of each source file that a kernel, or a part, is compiled from; then the names
    and values of the constants that these refer to.
    """
    functions = (function, *find_parts(function))
    stats = [(file, Path(file).stat()) for file in sorted({inspect.getfile(one) for one in functions})]
    constants = {(name, repr(value)) for one in functions for name, value in _referred(one) if not callable(value)}
    return (*((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats), *sorted(constants))


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
    """The functions of the parts that it refers to."""
    for _, value in _referred(function):
        part = getattr(value, "py_func", None)
        if part is not None:
            yield part


def _referred(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of what it refers to, by name or as an attribute of a module."""
    code, names = function.__code__, function.__globals__
    known = [(name, names[name]) for name in code.co_names if name in names]
    for _, module in known:
        if isinstance(module, ModuleType):
            yield from ((name, getattr(module, name)) for name in code.co_names if hasattr(module, name))
    yield from ((name, value) for name, value in known if not isinstance(value, ModuleType))
