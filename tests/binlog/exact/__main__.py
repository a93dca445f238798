"""`python -m tests.binlog.exact`: compare every type with SELECT on all servers, and print the number of values."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-q", str(Path(__file__).parent)]))
