"""Executes a statement of DuckDB that reads rows of Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

ROWS = "rows_of_arrow_that_a_statement_reads_from_the_variable_of_this_name"
"""The name of the rows in a statement of `execute_on`; longer than the names of MySQL, so no mirror has it."""


def execute_on(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    rows_of_arrow_that_a_statement_reads_from_the_variable_of_this_name: pa.Table | pa.RecordBatchReader,
    values: Sequence[object] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Execute a statement that reads the rows as the table ROWS.

    DuckDB looks for a table that does not exist among the variables of the function that calls it, and keeps no
    reference to the rows afterwards. To create a view of them instead, and to drop it, takes about as long as to insert
    a few of them.
    """
    return connection.execute(sql, values)
