"""Consuming a table: fetch, hand to a target, keep progress (engine.py is the loop)."""
