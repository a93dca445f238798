"""The part of the contract of a `TableStore` about changes: rows, TRUNCATE and schema changes, as apply plans them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConsumeError
from binlogsync.mirror.apply import apply
from binlogsync.schema import Column
from binlogsync.targets import TableStore
from tests.duck import make_batch
from tests.mirror.test_mirror_ddl import ddl
from tests.targets.contract_mirrors import SCHEMA, SOFT, inserts, row

ReadTable = Callable[[str, str], Sequence[dict[str, Any]]]


def take(store: TableStore, *batches: ChangeBatch) -> str | None:
    """Apply the batches in one transaction; returns why the mirror must be rebuilt, None if all were applied."""
    with store.begin() as transaction:
        reason = apply(transaction, batches)
    return None if reason is None else reason.reason


class ChangeContract:
    @pytest.fixture
    def ids(self, read: ReadTable) -> Callable[[], list[tuple[int, str]]]:
        return lambda: sorted((each["id"], each["a"]) for each in read("shop", "things"))

    def test_the_last_image_of_each_key_counts(self, store: TableStore, ids: Callable[[], Any]) -> None:
        changes: list[Any] = [
            ("c", None, row(1)),
            ("u", row(1), row(1, a="y")),
            ("c", None, row(2)),
            ("d", row(2), None),
            ("c", None, row(3)),
            ("u", row(3), row(4, a="moved")),  # the key itself changes
            ("c", None, row(3, a="again")),
        ]
        batch = make_batch(SCHEMA, changes)
        for _ in range(2):  # delivered again, it changes nothing
            take(store, batch)
            assert ids() == [(1, "y"), (3, "again"), (4, "moved")]
        take(store, make_batch(SCHEMA, [("d", row(3), None), ("d", row(9), None)], 20))
        assert ids() == [(1, "y"), (4, "moved")]

    def test_one_batch_and_many_have_the_same_result(self, store: TableStore, read: ReadTable) -> None:
        other = replace(SCHEMA, table="others")
        for schema, size in ((SCHEMA, 60), (other, 7)):
            numbers = [(n * 7) % 20 for n in range(60)]
            changes: list[Any] = [("c", None, row(n, a=str(i))) for i, n in enumerate(numbers)]
            for start in range(0, 60, size):
                take(store, make_batch(schema, changes[start : start + size], start))
        found = [sorted((each["id"], each["a"]) for each in read("shop", name)) for name in ("things", "others")]
        assert found[0] == found[1]
        assert len(found[0]) == 20

    def test_a_table_without_a_key_is_a_multiset(self, store: TableStore, read: ReadTable) -> None:
        keyless = replace(SCHEMA, primary_key=())
        take(store, inserts(row(1), row(1), row(1), row(2, a=None), schema=keyless))
        changes: list[Any] = [("d", row(1), None), ("u", row(2, a=None), row(2)), ("c", None, row(2))]
        take(store, make_batch(keyless, changes, 9))
        assert Counter((each["id"], each["a"]) for each in read("shop", "things")) == {(1, "x"): 2, (2, "x"): 2}

    def test_truncate_deletes_all_rows(self, store: TableStore, ids: Callable[[], Any]) -> None:
        take(store, inserts(row(1), row(2)))
        changes: list[Any] = [("c", None, row(3)), ("t", None, None), ("c", None, row(4))]
        take(store, make_batch(SCHEMA, changes, 9))
        assert ids() == [(4, "x")]

    def test_truncate_with_soft_deletes(self, store: TableStore, read: ReadTable) -> None:
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1)), make_batch(SCHEMA, [("t", None, None), ("c", None, row(2))], 9)], SOFT)
        assert {each["id"]: each["gone"] is None for each in read("shop", "things")} == {1: False, 2: True}

    def test_a_table_is_created_altered_and_dropped(self, store: TableStore, read: ReadTable) -> None:
        take(store, ddl("CREATE TABLE things (id INT PRIMARY KEY, a VARCHAR(20), n BIGINT UNSIGNED)", "create"))
        assert read("shop", "things") == []
        take(store, inserts(row(1), row(2, a=None)))
        alter = "ALTER TABLE things ADD COLUMN k INT NOT NULL DEFAULT 7 FIRST, DROP COLUMN n, RENAME COLUMN a TO b"
        take(store, ddl(alter))
        assert [list(each) for each in read("shop", "things")] == [["k", "id", "b"]] * 2
        found = sorted((each["k"], each["id"], each["b"] or "") for each in read("shop", "things"))
        assert found == [(7, 1, "x"), (7, 2, "")]
        take(store, ddl("DROP TABLE things", "drop"))
        with store.begin() as transaction:
            state = transaction.load_mirror("shop", "things")
        assert (state.is_known, state.schema) == (True, None)
        take(store, inserts(row(5), first=90))
        assert [each["id"] for each in read("shop", "things")] == [5]

    def test_a_conversion_is_applied_only_if_it_is_proven(self, store: TableStore, read: ReadTable) -> None:
        take(store, inserts(row(1, n=100)))
        take(store, ddl("ALTER TABLE things MODIFY n TINYINT UNSIGNED, MODIFY id BIGINT"))
        assert [(each["id"], each["n"]) for each in read("shop", "things")] == [(1, 100)]
        reason = take(store, ddl("ALTER TABLE things MODIFY n TINYINT UNSIGNED, MODIFY a VARCHAR(0)"))
        assert reason is not None
        assert "only the server knows the effect" in reason
        assert [each["a"] for each in read("shop", "things")] == ["x"]

    def test_renames(self, store: TableStore, read: ReadTable) -> None:
        take(store, inserts(row(1)))
        swap = (("shop", "things"), ("shop", "tmp"), ("shop", "tmp"), ("shop", "things"))
        assert take(store, ddl("RENAME TABLE things TO tmp, tmp TO things", "rename", swap)) is None
        assert len(read("shop", "things")) == 1
        reason = take(store, ddl("RENAME TABLE tmp TO things", "rename", (("shop", "tmp"), ("shop", "things"))))
        assert reason is not None
        assert "was renamed to its name" in reason
        take(store, ddl("RENAME TABLE things TO tmp", "rename", (("shop", "things"), ("shop", "tmp"))))
        with store.begin() as transaction:
            assert transaction.load_mirror("shop", "things").schema is None

    def test_a_refused_change_leaves_the_table_as_it_was(self, store: TableStore, ids: Callable[[], Any]) -> None:
        take(store, inserts(row(1)))
        narrow = replace(SCHEMA, columns=SCHEMA.columns[:2])
        broken = replace(make_batch(narrow, [("c", None, {"id": 2, "a": "x"})], 9), schema=SCHEMA)
        with pytest.raises(ConsumeError, match="full row images"):
            take(store, inserts(row(3), first=8), broken)
        assert ids() == [(1, "x")]

    def test_columns_that_differ_from_the_changes_need_a_rebuild(self, store: TableStore) -> None:
        take(store, inserts(row(1)))
        wider = replace(SCHEMA, columns=(*SCHEMA.columns, Column("z", "int")))
        reason = take(store, inserts(row(2, z=1), schema=wider, first=9))
        assert reason is not None
        assert "its columns differ" in reason
