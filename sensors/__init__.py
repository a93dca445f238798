"""What watches from outside: a sensor that keeps the tail of a source alive, a sensor that sees which tables wait.

Both come from functions that are given names and asset keys; nothing here knows a job or an asset of `pipelines`.
"""
