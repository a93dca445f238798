"""Rows of a table over MySQL's binary protocol, decoded by kernels into Arrow arrays; see reader.py."""

from binlogsync.mysql.result_set.reader import TableRows, read_rows

__all__ = ["TableRows", "read_rows"]
