"""The compilation of kernels: inner functions, references to arrays, the cache on disk."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

from binlogsync.binlog.compiling import compile_standalone, inner, kernel
from binlogsync.binlog.fast_compiling import KERNEL
from binlogsync.binlog.kernel_sources import source_stamp
from binlogsync.binlog.kernel_types import int64, intp
from binlogsync.binlog.memory import address, load_i64
from binlogsync.codec import span_kernels, text_kernels
from binlogsync.codec.field_layout import OFFSETS

compile_array: Any = njit
UNCACHED = KERNEL | {"cache": False}


@inner
def twice(number: int64) -> int64:
    """An inner function."""
    return 2 * number


@inner(apart=True)
def total(place: intp, count: int64) -> int64:
    """An inner function that calls another one."""
    found = 0
    for i in range(count):
        found += twice(load_i64(place + 8 * i))
    return found


def test_nested_inner_functions() -> None:
    @kernel(cache=False)
    def both(place: intp, count: int64) -> int64:
        return total(place, count) + twice(1) + total(place, 1)

    numbers = np.arange(1, 11)
    assert both(address(numbers), 10) == 110 + 2 + 2
    assert compile_standalone(total)(address(numbers), 3) == 12
    assert compile_standalone(twice)(4) == 8


def test_references_to_arrays_are_released() -> None:
    def find_length(array: npt.NDArray[np.int64]) -> int:
        for number in array:
            if number < 0:
                return twice(number)
        return len(array)

    length = compile_array("int64(int64[::1])", **UNCACHED)(find_length)
    numbers = np.arange(10)
    before = sys.getrefcount(numbers)
    assert [length(numbers) for _ in range(5)] == [10] * 5
    assert sys.getrefcount(numbers) == before


def test_compiling_restores_the_garbage_collector() -> None:
    was_enabled = gc.isenabled()
    try:
        for state in (gc.disable, gc.enable):
            state()
            before = gc.isenabled()

            @kernel(cache=False)
            def unchanged(number: int64) -> int64:
                return number

            assert gc.isenabled() is before
    finally:
        (gc.enable if was_enabled else gc.disable)()


@pytest.mark.parametrize(
    ("chosen", "expected"), [("", "fast"), ("fast", "fast"), ("public", "public"), ("quick", None)]
)
def test_the_environment_chooses_the_compiler(chosen: str, expected: str | None) -> None:
    program = """import sys, binlogsync.binlog.compiling
print(*(name for name in ("fast", "public") if f"binlogsync.binlog.{name}_compiling" in sys.modules))"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "BINLOGSYNC_KERNELS": chosen},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if expected is None:
        assert done.returncode == 1
        assert "ConfigError: BINLOGSYNC_KERNELS=quick is neither fast nor public" in done.stderr
    else:
        assert done.stdout.split() == [expected], done.stderr


CACHED = """
import sys
import numpy as np
import binlogsync.binlog.reader
print("numba.np.linalg" in sys.modules)
from numba import njit
print(njit(lambda count: np.zeros(count).sum())(3))
"""


@pytest.mark.slow
def test_a_cached_kernel_loads_nothing_that_only_a_compilation_needs() -> None:
    """And a user's function with arrays can still be compiled afterwards."""
    expected = ["False", "0.0"]
    for _ in range(2):  # the first run may fill the cache
        done = subprocess.run(
            [sys.executable, "-c", CACHED],
            env={**os.environ, "BINLOGSYNC_KERNELS": "fast"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        if done.stdout.split() == expected:
            break
    assert done.stdout.split() == expected


def _imported(folder: Path, factor: int) -> Any:
    """Import a kernel from a module in `folder`; its inner function is in another module and multiplies by `factor`."""
    for name in ("kept_part", "kept_kernel"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    text = "from binlogsync.binlog.compiling import inner\n\n"
    text += f"@inner\ndef part(number: int) -> int:\n    return {factor} * number\n"
    part = folder / "kept_part.py"
    if not part.exists() or part.read_text() != text:
        part.write_text(text)
    return importlib.import_module("kept_kernel").whole


@pytest.mark.parametrize("named", ["from kept_part import part", "import kept_part"])
def test_a_cached_kernel_is_recompiled_when_an_inner_function_changes(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    call = "part" if "from" in named else "kept_part.part"
    (tmp_path / "kept_kernel.py").write_text(
        "from binlogsync.binlog.compiling import kernel\n"
        f"{named}\n\n@kernel\ndef whole(number: int) -> int:\n    return {call}(number)\n"
    )
    found = []
    for factor in (2, 2, 30):
        whole = _imported(tmp_path, factor)
        found.append((whole(7), sum(whole.stats.cache_hits.values())))
    assert found == [(14, 0), (14, 1), (210, 0)]


def test_a_constant_of_another_module_is_part_of_the_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    function = span_kernels.read_fields.py_func  # type: ignore[attr-defined]
    before = source_stamp(function)
    monkeypatch.setattr(text_kernels, "OFFSETS", OFFSETS + 8)  # of a part that it calls
    after = source_stamp(function)
    assert after != before
    assert set(after) - set(before) == {("OFFSETS", repr(OFFSETS + 8))}
