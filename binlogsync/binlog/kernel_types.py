"""Types of kernels' parameters, results and conversions: numba's, which a type checker sees as Python's numbers.

A kernel's signature is its annotations, and `uint8(value)` in its body converts, as numba documents:

    @inner
    def load_be16(address: intp) -> uint64: ...

`intp` is an address, or another number as wide as one. A result of several values is annotated tuple[int64, uint64].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    boolean: TypeAlias = bool
    int8: TypeAlias = int
    int16: TypeAlias = int
    int32: TypeAlias = int
    int64: TypeAlias = int
    intp: TypeAlias = int
    uint8: TypeAlias = int
    uint16: TypeAlias = int
    uint32: TypeAlias = int
    uint64: TypeAlias = int
    void: TypeAlias = None
else:
    from numba.types import boolean, int8, int16, int32, int64, intp, uint8, uint16, uint32, uint64, void

__all__ = ["boolean", "int8", "int16", "int32", "int64", "intp", "uint8", "uint16", "uint32", "uint64", "void"]
