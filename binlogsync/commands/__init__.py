"""One file a subcommand of the command line: `run` gets settings and parsed arguments, and gives the exit code.

What each takes on the command line is in `arguments/`. The others are imported when they are asked for, so that
`--help` is quick. Data goes to stdout, words for people to stderr.
"""
