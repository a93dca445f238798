"""The case files of tests/cases: each statement produces the envelopes listed after it, on every server of the file."""

from __future__ import annotations

import pytest

from tests.binlog.case_files import SqlCase, load_cases, parse, run
from tests.databases import FreshDatabase

_RUNS = [
    pytest.param(case, server, id=f"{case.path.stem}-{server}") for case in load_cases() for server in case.servers
]


@pytest.mark.server
@pytest.mark.parametrize(("case", "server"), _RUNS)
def test_each_statement_produces_its_envelopes(case: SqlCase, server: str, request: pytest.FixtureRequest) -> None:
    database: FreshDatabase = request.getfixturevalue(server)
    seen = 0
    for step, envelopes in run(database, case):
        assert [parse(text) for text in envelopes] == [parse(text) for text in step.expected], step.sql
        seen += len(envelopes)
    assert seen
