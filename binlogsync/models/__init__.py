"""Rows as instances of the user's classes, which are checked against the table first."""
