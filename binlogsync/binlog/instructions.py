"""Functions of kernels that are a few machine instructions, written with llvmlite.ir; by public APIs of numba only.

@instruction
def _load(builder: ir.IRBuilder, address: ir.Value) -> ir.Value: ...

load_u8: Callable[[int], int] = instruction("uint8(intp)", emit_load)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Emit = Callable[..., Any]
"""Called with the builder and a value for each argument; returns the result, a list of several, or None."""
_new_intrinsic: Any = intrinsic


def instruction(result: Any, *parameters: Any) -> Callable[[Emit], Any]:
    """Make a function that emits code callable from kernels, for a result and parameters of these types."""
    own = result(*parameters)

    def decorate(emit: Emit) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
            made = emit(builder, *arguments)
            if made is None:
                return context.get_dummy_value()
            if isinstance(made, list):
                whole: ir.Value = ir.Constant(context.get_value_type(own.return_type), ir.Undefined)
                for i, value in enumerate(made):
                    whole = builder.insert_value(whole, value, i)
                return whole
            return made

        return make_intrinsic(own, generate)

    return decorate


def make_intrinsic(signature: Any, generate: Callable[..., ir.Value]) -> Any:
    """A function that kernels call with arguments that numba converts to this signature."""

    def call(typing_context: object, *given: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
        return signature, generate

    # Numba inspects the names of the parameters; the first one is the typing context, which callers do not pass.
    names = ["typing_context", *(f"argument_{i}" for i in range(len(signature.args)))]
    named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    vars(call)["__signature__"] = inspect.Signature(named)
    return _new_intrinsic(call)


def call_llvm(builder: ir.IRBuilder, name: str, kind: ir.FunctionType, arguments: list[ir.Value]) -> ir.Value:
    """Call an intrinsic of LLVM by its full name."""
    known = builder.module.globals.get(name)
    return builder.call(known or ir.Function(builder.module, kind, name), arguments)
