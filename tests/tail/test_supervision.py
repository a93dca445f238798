"""Every rule of the keeper as a row: what is known -> what is decided."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from binlogsync.stores import Lease
from binlogsync.tail.supervision import (
    Action,
    Decision,
    RunState,
    SupervisionRules,
    TailObservation,
    TailRun,
    decide_action,
)

NOW = 1_000_000.0


def run(run_id: str, state: RunState, *, started: float | None = None, ended: float | None = None) -> TailRun:
    """A run, times in seconds ago."""
    return TailRun(
        run_id,
        state,
        created=NOW - (started or ended or 1.0) - 3,
        started=None if started is None else NOW - started,
        ended=None if ended is None else NOW - ended,
    )


def lease(owner: str, age_s: float = 2.0, *, released: bool = False) -> Lease:
    return Lease("main", owner, 7, age_s, released)


@dataclass(frozen=True)
class TailCase:
    name: str
    runs: tuple[TailRun, ...]
    lease: Lease | None
    action: Action
    says: str
    run_key: str | None = None
    failed: tuple[str, ...] = ()
    watched_since: float | None = 100_000.0  # seconds ago


QUICK = run("f1", "failure", started=8, ended=5)
CASES = [
    TailCase("first start ever", (), None, "start", "it has no runs yet", "main:after:none"),
    TailCase("queued", (run("a", "queued"),), None, "skip", "queued"),
    TailCase("starting", (run("a", "starting"),), None, "skip", "starting"),
    TailCase("canceling", (run("a", "canceling", started=500),), lease("a", 300), "skip", "canceling"),
    TailCase("alive", (run("a", "started", started=500),), lease("a"), "skip", "run a is alive: last seen 2 s ago"),
    TailCase(
        "alive though the shift before failed", (run("b", "started", started=9), QUICK), lease("b"), "skip", "alive"
    ),
    TailCase("not yet claimed", (run("a", "started", started=20),), None, "skip", "has not claimed"),
    TailCase("predecessor's old lease", (run("b", "started", started=20),), lease("a", 300), "skip", "has not claimed"),
    TailCase("at the limit", (run("a", "started", started=500),), lease("a", 45.0), "skip", "run a is alive"),
    TailCase(
        "stale",
        (run("a", "started", started=500),),
        lease("a", 45.1),
        "fail_then_start",
        "last seen 45 s ago; a new run",
        "main:after:a",
        ("a",),
    ),
    TailCase(
        "never claimed",
        (run("a", "started", started=91),),
        None,
        "fail_then_start",
        "last seen at its start",
        "main:after:a",
        ("a",),
    ),
    TailCase(
        "taken over long ago",
        (run("b", "started", started=500),),
        lease("z"),
        "fail_then_start",
        "run b is marked as started",
        "main:after:b",
        ("b",),
    ),
    TailCase(
        "stale with a queued successor",
        (run("b", "queued"), run("a", "started", started=500)),
        lease("a", 300),
        "fail_then_start",
        "the queued run replaces it",
        None,
        ("a",),
    ),
    TailCase(
        "end of a shift",
        (run("a", "success", started=900, ended=1),),
        lease("a", released=True),
        "start",
        "run a ended as success",
        "main:after:a",
    ),
    TailCase(
        "long run killed",
        (run("a", "failure", started=900, ended=1),),
        lease("a", 300),
        "start",
        "run a ended as failure",
        "main:after:a",
    ),
    TailCase(
        "failed run whose process lives on",
        (run("a", "failure", started=900, ended=1),),
        lease("a"),
        "start",
        "run a ended as failure",
        "main:after:a",
    ),
    TailCase(
        "stopped by a user",
        (run("a", "canceled", started=900, ended=1),),
        lease("a", released=True),
        "hold",
        "switch this sensor off and on",
    ),
    TailCase(
        "stopped, then the sensor switched off and on",
        (run("a", "canceled", started=900, ended=60),),
        lease("a", released=True),
        "start",
        "run a ended as canceled",
        "main:after:a",
        watched_since=30,
    ),
    TailCase(
        "stopped, nothing known of the sensor",
        (run("a", "canceled", ended=60),),
        None,
        "hold",
        "run a was stopped by a user",
        watched_since=None,
    ),
    TailCase("stranger", (), lease("otherhost:42"), "skip", "otherhost:42"),
    TailCase(
        "another owner after a successful run", (run("a", "success", ended=5),), lease("cli:1"), "skip", "outside"
    ),
    TailCase("stranger long gone", (), lease("otherhost:42", 300), "start", "it has no runs yet", "main:after:none"),
    TailCase(
        "stranger left in order",
        (),
        lease("otherhost:42", released=True),
        "start",
        "it has no runs yet",
        "main:after:none",
    ),
    TailCase("quick failure", (QUICK,), None, "back_off", "the last in run f1; next try in 5 s"),
    TailCase(
        "quick failure waited for",
        (run("f", "failure", started=20, ended=11),),
        None,
        "start",
        "run f ended as failure",
        "main:after:f",
    ),
    TailCase(
        "three quick failures: 40 s",
        (run("f3", "failure", ended=30), run("f2", "failure", ended=60), run("f1", "failure", ended=90)),
        None,
        "back_off",
        "3 quick failure(s) in a row, the last in run f3; next try in 10 s",
    ),
    TailCase(
        "a good shift between resets the count",
        (run("f3", "failure", ended=11), run("s", "success", started=900, ended=60), run("f1", "failure", ended=90)),
        None,
        "start",
        "run f3 ended as failure",
        "main:after:f3",
    ),
    TailCase(
        "failures before the sensor was switched on do not count",
        (QUICK, run("f0", "failure", ended=90)),
        None,
        "start",
        "run f1 ended as failure",
        "main:after:f1",
        watched_since=3,
    ),
]


def decision(case: TailCase) -> Decision:
    since = None if case.watched_since is None else NOW - case.watched_since
    return decide_action(TailObservation("main", case.runs, case.lease, NOW, since))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(case: TailCase) -> None:
    found = decision(case)
    assert (found.action, found.run_key, found.failed) == (case.action, case.run_key, case.failed)
    assert case.says in found.reason


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_is_requested_only_by_the_starting_actions(case: TailCase) -> None:
    found = decision(case)
    assert (found.run_key is None) or found.action in {"start", "fail_then_start"}
    assert bool(found.failed) == (found.action == "fail_then_start")


def test_back_off_doubles_up_to_its_limit() -> None:
    rules = SupervisionRules(first_s=10, max_s=600)
    waits = []
    for count in range(1, 9):
        runs = tuple(run(f"f{i}", "failure", ended=0) for i in range(count))
        reason = decide_action(TailObservation("main", runs, None, NOW), rules).reason
        waits.append(int(reason.split("next try in ")[1].split(" ")[0]))
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]


def test_a_repeated_tick_asks_for_the_same_run() -> None:
    observation = TailObservation("main", (run("a", "success", ended=5),), None, NOW)
    assert decide_action(observation).run_key == decide_action(observation).run_key == "main:after:a"
