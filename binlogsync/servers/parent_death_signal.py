"""`parent_death_signal.py PID COMMAND...`: runs a command that the kernel stops (SIGTERM) when the process PID dies.

It is a separate script, because the system call between fork and exec of a threaded program (subprocess's preexec_fn)
can hang. The setting survives exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def set_death_signal(number: signal.Signals) -> None:
    """Let the kernel send this signal to this process when its parent dies; without effect outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def main() -> None:
    """Replaces itself with the command; exits at once if the parent has already died."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    set_death_signal(signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent died before the command started")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
