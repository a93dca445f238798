"""Compiles the kernels of this project in a fraction of the time that numba's defaults take.

A `kernel` is a function that Python calls, or that another kernel calls by its address (code_address.py). It is
compiled when its module is imported, and cached on disk. An `inner` function is compiled into each kernel that calls
it and has no separate machine code, so that no function is optimised twice. Both work on numbers and addresses only,
and never raise.

Measurements: bench/README.md, "Compile time".
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

from binlogsync.binlog.kernel_cache import KernelCache


class KernelCompiler(CompilerBase):
    """Numba's compiler without the passes for closures, array expressions, `with` and inlining: kernels use none."""

    def define_pipelines(self) -> list[PassManager]:
        """The passes, in numba's order. IRLegalization inserts the release of array references."""
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
    "pipeline_class": KernelCompiler,
    "nogil": True,
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,  # no kernel is called through numba's C wrapper
}
"""Numba's options for a kernel that has arrays as parameters or results."""
_NUMBERS_ONLY: dict[str, Any] = KERNEL | {"_nrt": False, "cache": False}
_compile: Any = njit
_cache_of: Any = KernelCache


@contextmanager
def _without_collection() -> Iterator[None]:
    """The compiler creates many objects and few reference cycles; searching for cycles takes a tenth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def kernel(signature: str | Signature, *, cache: bool = True, **options: bool) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for this signature of numbers, or load it from the cache; `options` are numba's."""

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
    """Compile a function into each kernel that calls it, for this signature.

    `apart` prevents inlining; it is for functions that loop over many values.
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

        # Numba inspects the names of the parameters; the first one is the typing context, which callers do not pass.
        names = ["typing_context", *inspect.signature(function).parameters]
        named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        call.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        part: Any = intrinsic(call)
        part.function_of_part = function
        part.alone = lambda: _compile(own, **_NUMBERS_ONLY)(function)
        return part

    return decorate


def alone(part: Any) -> Any:
    """Compile an `inner` function so that Python can call it, for tests."""
    return part.alone()


def _compile_into(library: Any, context: Any, function: Callable[..., Any], own: Signature) -> FunctionDescriptor:
    """Add a function's code to the library of the kernel that is being compiled."""
    flags: Any = Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    plain: Any = KernelCompiler
    compiled = plain(context.typing_context, context, library, own.args, own.return_type, flags, {})
    described: FunctionDescriptor = compiled.compile_extra(function).fndesc
    return described
