"""How the kernels of this project are compiled: in a fraction of the time that numba's defaults take.

A `kernel` is a function that Python calls, or another kernel by its address (calls.py); it is compiled when its module
is imported, and cached on disk. An `inner` function is a part of the kernels that call it: it has no code of its own,
so that nothing is optimised and translated twice. Both know numbers and addresses, and neither raises.

What is measured of this stands in bench/README.md, "Compile time".
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from llvmlite import ir
from numba import njit, types
from numba.core.compiler import CompilerBase, Flags
from numba.core.compiler_machinery import PassManager
from numba.core.funcdesc import FunctionDescriptor
from numba.core.sigutils import normalize_signature
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing.templates import Signature
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode
from numba.extending import intrinsic

from binlogsync.binlog.caching import KernelCache


class Plain(CompilerBase):
    """Numba's compiler without what kernels have not: closures, array expressions, `with`, functions to be inlined."""

    def define_pipelines(self) -> list[PassManager]:
        """The steps, in numba's order. IRLegalization is the one that gives back references to arrays."""
        steps: list[Any] = [TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, NopythonTypeInference]
        steps.append(PreLowerStripPhis)
        if self.state.flags.nrt:
            steps.append(IRLegalization)
        manager = PassManager("plain")
        for step in (*steps, AnnotateTypes, NativeLowering, NoPythonBackend):
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


KERNEL: dict[str, Any] = {
    "pipeline_class": Plain,
    "nogil": True,
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,  # nobody calls one through a C pointer
}
"""Numba's options of a kernel that takes or makes arrays."""
_NUMBERS_ONLY: dict[str, Any] = KERNEL | {"_nrt": False, "cache": False}
_compile: Any = njit
_cache_of: Any = KernelCache


@contextmanager
def _without_collection() -> Iterator[None]:
    """The compiler makes many objects and few cycles: to look for those takes a tenth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def kernel(signature: str | Signature, *, cache: bool = True, **options: bool) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function of numbers for this signature, or load it from the cache; `options` are numba's."""

    def compile_now(function: Callable[..., Any]) -> Any:
        made = _compile(**_NUMBERS_ONLY | options)(function)
        if cache:
            made._cache = _cache_of(function)  # noqa: SLF001 - as numba's enable_caching does with its own
        with _without_collection():
            made.compile(signature)
        made.disable_compile()
        return made

    return compile_now


def inner(signature: str | Signature, *, apart: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a part of each kernel that calls it, for this signature.

    One with a loop over many values stays `apart`: its code is not mixed with its caller's.
    """
    parameters, result = normalize_signature(signature)
    own = (result or types.none)(*parameters)

    def decorate(function: Callable[..., Any]) -> Any:
        done: WeakKeyDictionary[Any, FunctionDescriptor] = WeakKeyDictionary()

        def generate(context: Any, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]) -> ir.Value:
            library = context.active_code_library
            if library not in done:
                done[library] = _compile_into(library, context, function, own)
                code = library.get_function(done[library].llvm_func_name)
                code.linkage = "linkonce_odr"  # so that it is dropped when all calls are inlined
                if apart:
                    code.add_function_attribute("noinline")
            declared = context.declare_function(builder.module, done[library])
            return context.call_conv.call_function(builder, declared, own.return_type, own.args, arguments)[1]

        def call(typing_context: object, *given: types.Type) -> tuple[Signature, Callable[..., Any]]:
            return own, generate

        # Numba asks for the parameters' names, of which the first is not the caller's.
        names = ["typing_context", *inspect.signature(function).parameters]
        named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        call.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        part: Any = intrinsic(call)
        part.function_of_part = function
        part.alone = lambda: _compile(own, **_NUMBERS_ONLY)(function)
        return part

    return decorate


def alone(part: Any) -> Any:
    """An `inner` function as one that Python calls, compiled now: for its tests."""
    return part.alone()


def _compile_into(library: Any, context: Any, function: Callable[..., Any], own: Signature) -> FunctionDescriptor:
    """Put a function's code into the library of the kernel that is being compiled."""
    flags: Any = Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    plain: Any = Plain
    compiled = plain(context.typing_context, context, library, own.args, own.return_type, flags, {})
    described: FunctionDescriptor = compiled.compile_extra(function).fndesc
    return described
