"""The commands of the command line, one file each: `run` takes settings and parsed arguments, returns the exit code.

`arguments/` defines the arguments of all commands. A command's own module is imported when the command runs, so that
`--help` is fast. Data goes to stdout, messages to stderr.
"""
