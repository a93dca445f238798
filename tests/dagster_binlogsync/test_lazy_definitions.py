"""What loading definitions imports: neither kernels nor the client libraries, which only a run or a tick needs."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from binlogsync.table_list import ListedColumn, ListedTable, TableList, save_table_list

ROOT = Path(__file__).parents[2]
OF_RUNS = frozenset(
    ("cryptography", "duckdb", "llvmlite", "nats", "nkeys", "numba", "numpy", "pandas", "pyarrow", "pymysql")
    + ("pymysqlreplication", "redis", "sqlglot", "zstandard", "binlogsync.binlog.compiling")
)
"""The last one is what every module with kernels imports."""

IMPORTS = "imports.txt"
# Finds nothing; writes down each of the modules that is searched for, after the modules whose imports led to it.
RECORDER = """
import sys, dagster
imports = open({file!r}, "w", buffering=1)
class ImportRecorder:
    def find_spec(self, name, path, target=None):
        if name in {names!r}:
            frame, chain = sys._getframe(1), []
            while frame is not None:
                importer = frame.f_globals["__name__"]
                if not importer.startswith("importlib") and importer not in chain:
                    chain.insert(0, importer)
                frame = frame.f_back
            print(*chain, name, sep=" -> ", file=imports)
sys.meta_path.insert(0, ImportRecorder())
"""
HANDLERS = """
from dataclasses import dataclass
from binlogsync import Change, Retry
from dagster_binlogsync import table_consumer

@dataclass(frozen=True)
class Hole:
    id: int

def on_hole(change: Change[Hole]) -> None: ...
def on_holes(changes: list[Change[Hole]], connection) -> None: ...

items = table_consumer(Hole, on_hole, table="shop.items", retry=Retry(tries=2), start="2026-01-31T12:00:00Z")
later = table_consumer(Hole, on_holes, table="shop.later", start="nightly")
"""
DEFINITIONS = """
import dagster_binlogsync as bs, handlers
from binlogsync.settings import Settings
frozen = bs.mirror("crm.accounts", schema_contract="freeze", history=True)
pattern = bs.mirrors("shop.*", deleted_at="deleted_at")
assert len(pattern.tables) == 2
continuous = {continuous}
defs = bs.build_definitions(Settings.read(), [pattern, frozen, handlers.items, handlers.later], continuous=continuous)
defs.get_repository_def().load_all_definitions()
"""
OWN_ASSETS = """
import dagster as dg, dagster_binlogsync as bs
@bs.binlogsync_assets(source="main", tables=["shop.*"])
def shop(context: dg.AssetExecutionContext, binlogsync: bs.BinlogsyncResource):
    yield from binlogsync.consume(context)
resource = bs.BinlogsyncResource.from_settings()
own = dg.Definitions(assets=[shop], resources={"binlogsync": resource})
dg.Definitions.merge(own, bs.build_tail(resource)).get_repository_def().load_all_definitions()
"""
COMPONENT = """
from dagster.components.testing.utils import create_defs_folder_sandbox
from dagster_binlogsync import BinlogSyncComponent
attributes = {
    "source": "main", "mysql": {"host": "db.example.com", "password": "{{ secret('MYSQL_PASSWORD') }}"},
    "tables": [
        "shop.*", {"table": "crm.accounts", "history": True}, {"table": "shop.items", "handler": "handlers.on_hole"}
    ],
    "tail": {"start": "binlog.000042:1187"}, "loads": {"rows_per_second": 5}, "replay_assets": True,
    "positions": {"store": "sqlite"}, "table_lists": "tables",
}
with create_defs_folder_sandbox() as sandbox:
    import shutil
    shutil.copytree("tables", sandbox.project_root / "tables")
    contents = {"type": "dagster_binlogsync.BinlogSyncComponent", "attributes": attributes}
    sandbox.scaffold_component(BinlogSyncComponent, "cdc", defs_yaml_contents=contents)
    with sandbox.build_all_defs() as defs:
        defs.get_repository_def().load_all_definitions()
        names = {key.path[-1] for key in defs.resolve_asset_graph().get_all_asset_keys()}
        assert {"orders", "accounts", "items"} <= names
"""


RUN_ONE = """
exec(compile({program!r}, {name!r}, "exec"), {{"__name__": {name!r}}})
"""
PROGRAMS = {
    "import": "import dagster_binlogsync",
    "definitions": DEFINITIONS.format(continuous=None),
    "continuous": DEFINITIONS.format(continuous="bs.ContinuousConfig()"),
    "own assets": OWN_ASSETS,
    "component": COMPONENT,
}


@pytest.mark.slow
def test_definitions_are_loaded_without_what_only_runs_need(tmp_path: Path) -> None:
    """All in one process, because Dagster takes seconds to import: none of the programs may import such a module."""
    tables = tuple(ListedTable("shop", name, (ListedColumn("id", "int"),)) for name in ("orders", "customers"))
    save_table_list(tmp_path / "tables", TableList("main", datetime.now(UTC), tables))
    (tmp_path / "handlers.py").write_text(HANDLERS)
    whole = "".join(RUN_ONE.format(program=program, name=name) for name, program in PROGRAMS.items())
    command = [sys.executable, "-c", RECORDER.format(file=IMPORTS, names=set(OF_RUNS)) + whole]
    environment = {"PYTHONPATH": str(ROOT), "BINLOGSYNC_TABLE_LISTS": "tables", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = (tmp_path / IMPORTS).read_text()
    assert not imported, imported
