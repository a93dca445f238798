"""SQLitePositionStore passes the contract tests, and reports problems of its file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from binlogsync.errors import LeaseLostError, StoreError
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.stores.contract import AT, BOOKMARK, LATER, Opener, PositionStoreContract

ROOT = Path(__file__).parents[2]


Opening = Callable[..., SQLitePositionStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "deeper" / "positions.db"


@pytest.fixture
def open_positions() -> Iterator[Opening]:
    """Opens stores as SQLitePositionStore does, and closes all of them after the test."""
    with ExitStack() as stores:
        yield lambda path, **options: stores.enter_context(closing(SQLitePositionStore(path, **options)))


class TestSQLitePositionStore(PositionStoreContract):
    @pytest.fixture
    def opener(self, open_positions: Opening, path: Path) -> Opener:
        return lambda: open_positions(path)


# stored data


def test_the_file_is_in_wal_mode_with_its_version(open_positions: Opening, path: Path) -> None:
    open_positions(path).leases.claim("shop", "a")
    connection = sqlite3.connect(path)
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma user_version").fetchone() == (3,)
    connection.close()


def test_many_may_open_a_new_file_at_once(open_positions: Opening, path: Path) -> None:
    together = threading.Barrier(8)

    def claim(number: int) -> int:
        store = open_positions(path)
        together.wait(120)
        epoch = store.leases.claim(f"source {number}", "a").epoch
        store.close()
        return epoch

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(claim, range(8))) == [1] * 8


def test_nothing_is_opened_before_the_first_use(open_positions: Opening, path: Path) -> None:
    open_positions(path).close()
    assert not path.parent.exists()


def test_a_clock_that_goes_back_neither_keeps_nor_kills_a_lease(open_positions: Opening, path: Path) -> None:
    now_s = [1_700_000_000.0]
    store = open_positions(path, clock=lambda: now_s[0])
    store.leases.claim("shop", "a")
    now_s[0] -= 3600
    seen = store.leases.load("shop")
    assert seen is not None
    assert seen.age_s == 0
    with pytest.raises(LeaseLostError):
        store.leases.claim("shop", "b", stale_s=45)
    now_s[0] += 46
    assert store.leases.claim("shop", "b", stale_s=45).epoch == 2


# errors of the file


def test_a_closed_store_says_so(open_positions: Opening, path: Path) -> None:
    store = open_positions(path)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.checkpoints.load("shop")


def test_a_file_that_was_removed_is_noticed(open_positions: Opening, path: Path) -> None:
    store = open_positions(path)
    lease = store.leases.claim("shop", "a")
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(LeaseLostError, match="emptied or restored"):
        store.checkpoints.save(lease, AT)


def test_a_file_that_is_not_sqlite_is_named_and_left_alone(open_positions: Opening, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database\n" * 100)
    with pytest.raises(StoreError, match=r"positions\.db.*not a database.*choose another path"):
        open_positions(path).checkpoints.load("shop")
    assert path.read_bytes() == b"not a database\n" * 100


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("pragma user_version = 4", "newer release .schema version 4, supported are versions up to 3"),
        ("create table notes (text)", "another program"),
    ],
)
def test_a_database_of_another_release_or_program_is_left_alone(
    open_positions: Opening, path: Path, script: str, message: str
) -> None:
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    before = path.read_bytes()
    store = open_positions(path)
    for _ in range(2):
        with pytest.raises(StoreError, match=message):
            store.leases.claim("shop", "a")
    assert path.read_bytes() == before


def test_a_file_of_the_first_release_gets_what_it_lacks(open_positions: Opening, path: Path) -> None:
    store = open_positions(path)
    store.checkpoints.save(store.leases.claim("shop", "a"), AT)
    store.close()
    connection = sqlite3.connect(path)
    connection.executescript("drop table bookmarks; pragma user_version = 1")
    connection.close()
    store = open_positions(path)
    store.bookmarks.put("shop", BOOKMARK)
    assert (store.checkpoints.load("shop"), store.bookmarks.load("shop")) == (AT, [BOOKMARK])


def test_a_damaged_bookmark_is_named(open_positions: Opening, path: Path) -> None:
    open_positions(path).bookmarks.put("shop", BOOKMARK)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("update bookmarks set bookmark = '{}'")
    connection.close()
    with pytest.raises(StoreError, match="bookmark of source 'shop' cannot be read"):
        open_positions(path).bookmarks.load("shop")


def test_a_damaged_checkpoint_is_named(open_positions: Opening, path: Path) -> None:
    open_positions(path).leases.claim("shop", "a")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("update positions set checkpoint = '{\"file\":'")
    connection.close()
    with pytest.raises(StoreError, match="checkpoint of source 'shop' cannot be read"):
        open_positions(path).checkpoints.load("shop")


def test_a_path_that_cannot_be_is_named(open_positions: Opening, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"File exists; choose a path"):
        open_positions(tmp_path / "file" / "positions.db").checkpoints.load("shop")
    with pytest.raises(StoreError, match="cannot be opened or made"):
        open_positions(tmp_path).checkpoints.load("shop")


def test_a_lock_that_is_not_let_go_is_named(
    open_positions: Opening, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("binlogsync.stores.sqlite_file.BUSY_TIMEOUT_S", 0.2)
    store = open_positions(path)
    lease = store.leases.claim("shop", "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreError, match="locked.*another process"):
        store.checkpoints.save(lease, AT)
    assert store.checkpoints.load("shop") is None
    other.execute("rollback")
    other.close()
    store.checkpoints.save(lease, LATER)
    assert store.checkpoints.load("shop") == LATER


ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=512k tmpfs "$1"
"$2" -c "$3" "$1/positions.db" fill
mount -o remount,ro "$1"
"$2" -c "$3" "$1/positions.db" look
"""
FILL = """
import sys
from pathlib import Path
from binlogsync.errors import StoreError
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.stores.contract import AT, LATER

path = Path(sys.argv[1])
if sys.argv[2] == "look":
    try:
        SQLitePositionStore(path).leases.claim("shop", "b", take_over=True)
    except StoreError as error:
        print("READONLY", error)
    sys.exit()
store = SQLitePositionStore(path)
lease = store.leases.claim("shop", "a")
store.checkpoints.save(lease, AT)
ballast = path.with_name("ballast")
with open(ballast, "wb", buffering=0) as file:
    try:
        while file.write(b"x" * 4096):
            pass
    except OSError:
        pass
saved = 0
try:
    for number in range(1000):
        store.leases.claim(f"source {number}", "a")
except StoreError as error:
    print("FULL", error)
assert store.checkpoints.load("shop") == AT, "the old checkpoint is gone"
ballast.unlink()
store.checkpoints.save(lease, LATER)
assert store.checkpoints.load("shop") == LATER
store.close()
print("MENDED")
"""


def test_a_full_and_a_readonly_disk_are_named_and_keep_the_old_checkpoint(tmp_path: Path) -> None:
    namespace = ["unshare", "-Urm", "sh", "-c"]
    if subprocess.run([*namespace, f"mount -t tmpfs tmpfs '{tmp_path}'"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace here, so no small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*namespace, ON_A_SMALL_DISK, "sh", str(disk), sys.executable, FILL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    full, mended, readonly = done.stdout.splitlines()
    assert "the disk is full; free space" in full
    assert mended == "MENDED"
    assert readonly.startswith("READONLY")
    assert "choose a path that this user may write to" in readonly
