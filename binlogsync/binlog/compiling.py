"""Decorators of kernels, whose signatures are their annotations (kernel_types.py).

A `kernel` is a function that Python calls, or that another kernel calls by its address. It is compiled when its module
is imported, and cached on disk. An `inner` function is compiled into each kernel that calls it. Both work on numbers
and addresses only, and never raise.

BINLOGSYNC_KERNELS chooses the compiler: `fast` (fast_compiling.py) or `public` (public_compiling.py).
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
from collections.abc import Callable
from types import GenericAlias
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from numba import types

from binlogsync.errors import ConfigError

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")
_COMPILERS = {"": "fast", "fast": "fast", "public": "public"}


class _Compiler(Protocol):
    """Functions of the modules that compile kernels."""

    def compile_kernel(
        self, function: Callable[..., Any], signature: Any, *, cache: bool, has_wrapper: bool
    ) -> Any: ...
    def make_part(self, function: Callable[..., Any], signature: Any, *, apart: bool) -> Any: ...
    def compile_part(self, part: Any) -> Any: ...
    def code_address(self, kernel: Any) -> int: ...
    def make_caller(self, kernel: Any) -> Any: ...


def _load_compiler() -> _Compiler:
    chosen = os.environ.get("BINLOGSYNC_KERNELS", "")
    if chosen not in _COMPILERS:
        raise ConfigError(f"BINLOGSYNC_KERNELS={chosen} is neither fast nor public")
    return cast(_Compiler, importlib.import_module(f"binlogsync.binlog.{_COMPILERS[chosen]}_compiling"))


_COMPILER = _load_compiler()
KERNELS: list[Any] = []
"""The kernels that were compiled or loaded. `stats` of each has the folder of its cache, and whether it was there."""


@overload
def kernel(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def kernel(*, cache: bool = True, has_wrapper: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def kernel(function: Callable[..., Any] | None = None, *, cache: bool = True, has_wrapper: bool = True) -> Any:
    """Compile a function now, or load it from the cache. Without a wrapper, only other kernels can call it."""

    def compile_now(function: Callable[..., Any]) -> Any:
        made = _COMPILER.compile_kernel(function, _signature_of(function), cache=cache, has_wrapper=has_wrapper)
        if cache:
            _note(made)
        return made

    return compile_now if function is None else compile_now(function)


@overload
def inner(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def inner(*, apart: bool) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def inner(function: Callable[..., Any] | None = None, *, apart: bool = False) -> Any:
    """Compile a function into each kernel that calls it.

    `apart` prevents inlining; it is for functions that loop over many values.
    """

    def make_now(function: Callable[..., Any]) -> Any:
        return _COMPILER.make_part(function, _signature_of(function), apart=apart)

    return make_now if function is None else make_now(function)


def compile_standalone(part: Callable[P, R]) -> Callable[P, R]:
    """Compile an `inner` function so that Python can call it, for tests."""
    return cast(Callable[P, R], _COMPILER.compile_part(part))


def code_address(kernel: Callable[..., Any]) -> int:
    """The address of a kernel's machine code, for `call_by_address`.

    A kernel that calls another by name includes a copy of its code, which the compiler optimises again. A call by
    address saves that time, for a large kernel that is called rarely.
    """
    return _COMPILER.code_address(kernel)


def call_by_address(kernel: Callable[..., R]) -> Callable[[int, tuple[Any, ...]], R]:
    """A function that other kernels call as f(address, (argument, ...)) to call this kernel at its address."""
    return cast(Callable[[int, tuple[Any, ...]], R], _COMPILER.make_caller(kernel))


def _note(made: Any) -> None:
    """Add a kernel to KERNELS; log, once in a process, that kernels have to be compiled."""
    is_first = not any(known.stats.cache_misses for known in KERNELS)
    KERNELS.append(made)
    if is_first and made.stats.cache_misses:
        log.warning(
            "compiling kernels: takes about ten seconds, once for each version of binlogsync (`binlogsync compile` "
            "does it in advance, for example in an image)"
        )


def _signature_of(function: Callable[..., Any]) -> Any:
    """Numba's signature, from the annotations."""
    found = {name: _type_of(kind) for name, kind in inspect.get_annotations(function, eval_str=True).items()}
    result = found.pop("return")
    return result(*found.values())


def _type_of(annotation: Any) -> Any:
    if isinstance(annotation, GenericAlias):
        return types.Tuple([_type_of(item) for item in annotation.__args__])
    known = {None: types.void, int: types.int64, bool: types.boolean}
    return known.get(annotation, annotation)
