"""`binlogsync compile`, and the log line of a first run without it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from binlogsync.binlog import compiling
from binlogsync.cli.compile import MODULES
from binlogsync.cli.main import main

PACKAGE = Path(compiling.__file__).parents[1]


def kernel_of(cache_misses: dict[str, int], cache_path: str | None = "cache") -> SimpleNamespace:
    return SimpleNamespace(stats=SimpleNamespace(cache_misses=cache_misses, cache_path=cache_path))


def test_all_modules_with_kernels_are_imported() -> None:
    found = {
        ".".join(("binlogsync", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^@kernel\b", path.read_text(), re.MULTILINE)
    }
    assert set(MODULES) == found


def test_compiled_kernels_are_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile"]) == 0
    printed = capsys.readouterr()
    folders = [Path(line) for line in printed.out.splitlines()]
    assert len(folders) >= 1
    assert all(list(folder.glob("*.nbi")) for folder in folders)
    assert re.search(rf"^compiling \d+ of {len(compiling.KERNELS)} kernels in ", printed.err, re.MULTILINE)
    assert len(compiling.KERNELS) >= len(MODULES)


def test_kernels_that_cannot_be_cached_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "KERNELS", [kernel_of({}), kernel_of({}, cache_path=None)])
    assert main(["compile"]) == 1
    assert "set NUMBA_CACHE_DIR to a folder that the user may write to" in capsys.readouterr().err


def test_a_first_run_logs_once_that_it_compiles(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = iter([kernel_of({}), kernel_of({"signature": 1}), kernel_of({"signature": 1})])
    monkeypatch.setattr(compiling, "KERNELS", [])
    monkeypatch.setattr(compiling, "_COMPILER", SimpleNamespace(compile_kernel=lambda *_, **__: next(found)))
    caplog.set_level(logging.WARNING, "binlogsync.binlog.compiling")

    def double(number: int) -> int:
        return 2 * number

    compiling.kernel(double)
    assert caplog.messages == []
    compiling.kernel(double)
    compiling.kernel(double)
    [message] = caplog.messages
    assert "`binlogsync compile` does it in advance" in message
