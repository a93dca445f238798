"""Consuming a table: fetch changes, pass them to a target, store progress (engine.py is the loop)."""
