"""Calls of a kernel by the address of its code.

A kernel that calls another by its name takes a copy of all the other's code into its own, and the compiler optimises
that once more. For a large kernel that is called seldom an address saves that time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import intrinsic


def code_address(kernel: Any) -> int:
    """Where the code of a kernel lies, compiled or from the cache, that has one signature and raises nothing."""
    (compiled,) = kernel.overloads.values()
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


def call_by_address(result: types.Type, *parameters: types.Type) -> Any:
    """What a kernel calls as f(address, (argument, ...)) to call the code there; the types are of its signature."""

    def call(
        typing_context: object, address: types.Type, arguments: types.Type
    ) -> tuple[Signature, Callable[..., Any]]:
        return result(types.intp, types.BaseTuple.from_types(parameters)), _generate

    return intrinsic(call)


def _generate(context: Any, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]) -> ir.Value:
    convention, parameters = context.call_conv, tuple(signature.args[1])
    kind = convention.get_function_type(signature.return_type, parameters)
    code = builder.inttoptr(arguments[0], kind.as_pointer())
    given = cgutils.unpack_tuple(builder, arguments[1])
    _, value = convention.call_function(builder, code, signature.return_type, parameters, given)
    return value
