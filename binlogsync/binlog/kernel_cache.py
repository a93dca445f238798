"""The cache of compiled kernels on disk.

Numba takes what it has for a kernel as long as the file is the same that the kernel stands in. A kernel's parts stand
in other files: here it is compiled anew when one of those has changed, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache


class _CacheLocator:
    """Numba's answer to where a kernel is kept and what it was compiled from, which is more files than one."""

    def __init__(self, places: Any, files: list[Path]) -> None:
        self._places = places
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._places, name)

    def get_source_stamp(self) -> object:
        """Changes when one of the files does."""
        stats = [path.stat() for path in self._files]
        return self._places.get_source_stamp(), tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


class _KernelCacheImpl(CompileResultCacheImpl):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._files = sorted({Path(inspect.getfile(part)) for part in parts_of(function)})
        super().__init__(function)  # type: ignore[no-untyped-call]

    @property
    def locator(self) -> _CacheLocator:
        """What numba asks where and how old."""
        return _CacheLocator(super().locator, self._files)


class KernelCache(FunctionCache):
    """The cache of one kernel."""

    _impl_class = _KernelCacheImpl


def parts_of(function: Callable[..., Any]) -> set[Callable[..., Any]]:
    """The functions behind the parts that a kernel, or a part, calls, and those that they call."""
    found: set[Callable[..., Any]] = set()
    todo = [function]
    while todo:
        for part in _called(todo.pop()):
            if part not in found:
                found.add(part)
                todo.append(part)
    return found


def _called(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Functions of parts that it names, alone or behind the name of a module."""
    code, names = function.__code__, function.__globals__
    known = [names[name] for name in code.co_names if name in names]
    for module in [value for value in known if isinstance(value, ModuleType)]:
        known += [getattr(module, name, None) for name in code.co_names]
    for value in known:
        part = getattr(value, "function_of_part", None)
        if part is not None:
            yield part
