"""Rows as instances of the user's classes, checked against the table first."""
