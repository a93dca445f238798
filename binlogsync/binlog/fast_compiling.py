"""The default compiler of kernels: uses private APIs of numba, and takes a third of the time of numba's pipeline.

No other module uses private APIs. `public_compiling.py` has the same functions with public APIs only, for versions of
numba that this module does not support (BINLOGSYNC_KERNELS=public). Measurements: bench/README.md, "Compile time".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.compiler import CompilerBase, Flags
from numba.core.compiler_machinery import PassManager
from numba.core.funcdesc import FunctionDescriptor
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

from binlogsync.binlog.instructions import make_intrinsic
from binlogsync.binlog.kernel_sources import source_stamp
from binlogsync.collection import without_collection


class KernelCompiler(CompilerBase):
    """Numba's compiler without the passes for closures, array expressions, `with` and inlining: kernels use none."""

    def define_pipelines(self) -> list[PassManager]:
        """The passes, in numba's order. IRLegalization inserts the release of array references."""
        steps: list[Any] = [TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, NopythonTypeInference]
        steps.append(PreLowerStripPhis)
        if self.state.flags.nrt:
            steps.append(IRLegalization)
        manager = PassManager("kernel")
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


def compile_kernel(function: Callable[..., Any], signature: Signature, *, cache: bool, has_wrapper: bool) -> Any:
    """Compile a function for this signature of numbers, or load it from the cache."""
    made = _compile(**_NUMBERS_ONLY, no_cpython_wrapper=not has_wrapper)(function)
    if cache:
        new_cache: Any = _KernelCache
        made._cache = new_cache(function)  # noqa: SLF001 - as numba's enable_caching does with its own
    with without_collection():
        made.compile(signature)
    made.disable_compile()
    return made


def make_part(function: Callable[..., Any], signature: Signature, *, apart: bool) -> Any:
    """A function whose code is added to the library of each kernel that calls it, and not compiled separately."""
    done: WeakKeyDictionary[Any, FunctionDescriptor] = WeakKeyDictionary()

    def generate(context: Any, builder: ir.IRBuilder, _: Signature, arguments: list[ir.Value]) -> ir.Value:
        library = context.active_code_library
        if library not in done:
            done[library] = _compile_into(library, context, function, signature)
            code = library.get_function(done[library].llvm_func_name)
            code.linkage = "linkonce_odr"  # so that it is dropped when all calls are inlined
            if apart:
                code.add_function_attribute("noinline")
        declared = context.declare_function(builder.module, done[library])
        call = context.call_conv.call_function
        return call(builder, declared, signature.return_type, signature.args, arguments)[1]

    part = make_intrinsic(signature, generate)
    part.py_func = function
    part.compile_alone = lambda: _compile(signature, **_NUMBERS_ONLY)(function)
    return part


def compile_part(part: Any) -> Any:
    """Compile a part so that Python can call it."""
    return part.compile_alone()


def code_address(kernel: Any) -> int:
    """The address of the machine code of a kernel."""
    (compiled,) = kernel.overloads.values()
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


def make_caller(kernel: Any) -> Any:
    """A function that kernels call as f(address, (argument, ...)) to call the code at the address."""
    (own,) = kernel.nopython_signatures
    result, parameters = own.return_type, tuple(own.args)

    def generate(context: Any, builder: ir.IRBuilder, _: Signature, arguments: list[ir.Value]) -> ir.Value:
        convention = context.call_conv
        code = builder.inttoptr(arguments[0], convention.get_function_type(result, parameters).as_pointer())
        given = cgutils.unpack_tuple(builder, arguments[1])
        return convention.call_function(builder, code, result, parameters, given)[1]

    return make_intrinsic(result(types.intp, types.Tuple(parameters)), generate)


class _CacheLocator:
    """Numba's locator of a cached kernel, with a stamp of all its source files."""

    def __init__(self, locator: Any, function: Callable[..., Any]) -> None:
        self._locator = locator
        self._function = function

    def __getattr__(self, name: str) -> Any:
        return getattr(self._locator, name)

    def get_source_stamp(self) -> object:
        """A value that changes when one of the files changes."""
        return self._locator.get_source_stamp(), source_stamp(self._function)


class _KernelCacheImpl(CompileResultCacheImpl):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        base: Any = super()
        base.__init__(function)

    @property
    def locator(self) -> _CacheLocator:
        """Numba's locator, with the stamp of all source files."""
        return _CacheLocator(super().locator, self._function)


class _KernelCache(FunctionCache):
    """The cache of one kernel."""

    _impl_class = _KernelCacheImpl

    def load_overload(self, sig: Signature, target_context: Any) -> Any:
        """The cached kernel, or None. Numba first initialises all that a compilation may use (its reference counts, and
        implementations of Python's and NumPy's functions), which takes 30 MB; kernels of numbers need none of it.
        """
        cache: Any = super()
        with cache._guard_against_spurious_io_errors():  # noqa: SLF001 - as in the method that this replaces
            return cache._load_overload(sig, target_context)  # noqa: SLF001


def _compile_into(library: Any, context: Any, function: Callable[..., Any], signature: Signature) -> FunctionDescriptor:
    """Add a function's code to the library of the kernel that is being compiled."""
    flags: Any = Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    pipeline: Any = KernelCompiler
    compiler = pipeline(context.typing_context, context, library, signature.args, signature.return_type, flags, {})
    described: FunctionDescriptor = compiler.compile_extra(function).fndesc
    return described
