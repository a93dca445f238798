"""What an import of the package, the command line's help and a tail load: heavy libraries only where they are used."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = frozenset(
    ("dagster", "duckdb", "llvmlite", "msgspec", "nats", "numba", "numpy", "pandas", "pyarrow", "pydantic")
    + ("pymysql", "pymysqlreplication", "redis", "sqlglot", "zstandard")
)
OF_A_TAIL = frozenset(
    ("llvmlite", "msgspec", "nats", "numba", "numpy", "pyarrow", "pydantic", "pymysql", "pymysqlreplication")
    + ("zstandard",)
)
HELP = """
import contextlib, io
from binlogsync.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({arguments})
"""
# All that the command imports, and then arrays made in the ways that make pyarrow look for pandas.
TAIL = """
import importlib
from binlogsync.cli import main as cli
cli._keep_pandas_out()
importlib.import_module("binlogsync.cli.tail")
from binlogsync.settings import Settings
settings = Settings.read(environment={})
settings.mysql(), settings.jetstream(), settings.tail(), settings.audit(), settings.positions()
import numpy as np, pyarrow as pa
pa.array(["a", None]), pa.array(np.arange(3)).to_numpy()
"""


def loaded_by(program: str, folder: Path) -> set[str]:
    """Heavy libraries that a program has loaded at its end."""
    program += f"\nimport sys\nprint(*[name for name in {sorted(HEAVY)} if name in sys.modules])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import binlogsync\ndir(binlogsync)",
        "from binlogsync import BinlogSyncError, Change, HandlerError, Retry",
        HELP.format(arguments=["--help"]),
        HELP.format(arguments=["--version"]),
        HELP.format(arguments=["tail", "--help"]),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(program: str, tmp_path: Path) -> None:
    assert loaded_by(program, tmp_path) == set()


@pytest.mark.slow
def test_a_tail_loads_what_it_uses(tmp_path: Path) -> None:
    assert loaded_by(TAIL, tmp_path) == OF_A_TAIL


@pytest.mark.slow
def test_pandas_can_be_imported_where_a_tail_kept_it_out(tmp_path: Path) -> None:
    program = "from binlogsync.cli import main as cli\ncli._keep_pandas_out()\nimport pandas\npandas.DataFrame()"
    assert loaded_by(program, tmp_path) == {"numpy", "pandas", "pyarrow"}
