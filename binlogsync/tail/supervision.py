"""Decides whether the tail of a source has to be started; pure, so that each rule is one row of a table-driven test.

Input: the last runs of the tail, newest first, its lease in the position store, and when the sensor was switched on.
Output: one `Decision` with a sentence for the UI. The status of a run is not sufficient: the run of a dead process can
stay STARTED indefinitely, and a process can outlive its run. The age of the lease decides.

    an unfinished run, lease fresh, or still starting      skip
    a STARTED run whose lease is older than stale_s        fail_then_start
    no unfinished run, but another owner holds the lease   skip: a process outside of these runs tails the source
    last run canceled after the sensor was switched on     hold: a user stopped it, a user starts it again
    k failures in a row, each soon after its start         back_off for first_s * 2^(k-1) seconds, at most max_s
    anything else                                          start
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from binlogsync.stores import Lease
from binlogsync.waiting import backoff_s

RunState = Literal["queued", "starting", "started", "canceling", "success", "failure", "canceled"]
Action = Literal["skip", "hold", "back_off", "start", "fail_then_start"]

FINISHED: frozenset[RunState] = frozenset({"success", "failure", "canceled"})


@dataclass(frozen=True, slots=True)
class TailRun:
    """One run of a tail. Times are seconds since 1970; None for a state that it has not reached."""

    run_id: str
    state: RunState
    created: float
    started: float | None = None
    ended: float | None = None

    @property
    def lived_s(self) -> float:
        """Seconds from start to end; 0 for a run that never started or has not ended."""
        return max(0.0, self.ended - self.started) if self.started is not None and self.ended is not None else 0.0


@dataclass(frozen=True, slots=True)
class TailObservation:
    """What is known about the tail of one source.

    Attributes:
        source: its name.
        runs: newest first; ten or more, so that consecutive failures can be counted.
        lease: from the position store; None when it was never claimed.
        now: seconds since 1970.
        watched_since: when the sensor was switched on last; None if unknown.
        what: what the runs are for, in sentences.
    """

    source: str
    runs: tuple[TailRun, ...]
    lease: Lease | None
    now: float
    watched_since: float | None = None
    what: str = "tail"


@dataclass(frozen=True, slots=True)
class SupervisionRules:
    """Time limits of the rules, in seconds.

    Attributes:
        stale_s: a lease older than this belongs to a dead tail.
        start_grace_s: how long a STARTED run may take until it claims the lease (imports, compiling, connecting).
        quick_s: a failure sooner than this after the start counts for the back-off.
        first_s, max_s: the back-off after the first such failure, and its limit.
    """

    stale_s: float = 45.0
    start_grace_s: float = 90.0
    quick_s: float = 60.0
    first_s: float = 10.0
    max_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and the reason as the UI shows it.

    Attributes:
        action: see the module.
        reason: the sentence.
        run_key: of the run to request; None if none is requested.
        failed: ids of runs to mark as failed first.
    """

    action: Action
    reason: str
    run_key: str | None = None
    failed: tuple[str, ...] = ()


def decide_action(observation: TailObservation, rules: SupervisionRules | None = None) -> Decision:
    """Apply the rules of this module in their order."""
    rules = rules or SupervisionRules()
    unfinished = [run for run in observation.runs if run.state not in FINISHED]
    dead = [run for run in unfinished if _is_dead(run, observation, rules)]
    if dead:
        return _replace(dead, waiting=len(unfinished) > len(dead), observation=observation)
    if unfinished:
        return Decision("skip", _describe(unfinished[0], observation))
    last = observation.runs[0] if observation.runs else None
    lease = observation.lease
    if lease is not None and _is_fresh(lease, rules) and lease.owner not in {run.run_id for run in observation.runs}:
        return Decision(
            "skip",
            f"the {observation.what} of {observation.source} runs outside of these runs in {lease.owner}, last "
            f"seen {lease.age_s:.0f} s ago; stop that process to run it here",
        )
    if last is None:
        return _start(observation, "it has no runs yet")
    if last.state == "canceled" and _since(last, observation):
        return Decision(
            "hold",
            f"run {last.run_id[:8]} was stopped by a user; switch this sensor off and on to start the "
            f"{observation.what} again",
        )
    wait_s, failures = _back_off(observation, rules)
    if wait_s > 0:
        return Decision(
            "back_off",
            f"{failures} quick failure(s) in a row, the last in run {last.run_id[:8]}; next try in {wait_s:.0f} s",
        )
    return _start(observation, f"run {last.run_id[:8]} ended as {last.state}")


def _is_fresh(lease: Lease, rules: SupervisionRules) -> bool:
    return not lease.released and lease.age_s <= rules.stale_s


def _is_dead(run: TailRun, observation: TailObservation, rules: SupervisionRules) -> bool:
    """A STARTED run whose process has ended: its lease is stale, or it did not claim one within the grace period."""
    if run.state != "started":
        return False
    lease = observation.lease
    if lease is not None and lease.owner == run.run_id:
        return lease.age_s > rules.stale_s
    return observation.now - (run.started or run.created) > rules.start_grace_s


def _describe(run: TailRun, observation: TailObservation) -> str:
    lease = observation.lease
    if run.state != "started":
        return f"run {run.run_id[:8]} is {run.state}"
    if lease is not None and lease.owner == run.run_id:
        return f"run {run.run_id[:8]} is alive: last seen {lease.age_s:.0f} s ago"
    return f"run {run.run_id[:8]} is starting and has not claimed the lease yet"


def _replace(dead: list[TailRun], *, waiting: bool, observation: TailObservation) -> Decision:
    """Fail the dead runs; a queued run is their successor, else a new one is requested."""
    names = ", ".join(run.run_id[:8] for run in dead)
    age = f"{observation.lease.age_s:.0f} s ago" if observation.lease is not None else "at its start"
    reason = f"run {names} is marked as started but was last seen {age}"
    failed = tuple(run.run_id for run in dead)
    if waiting:
        return Decision("fail_then_start", f"{reason}; the queued run replaces it", None, failed)
    return Decision("fail_then_start", f"{reason}; a new run replaces it", _run_key(observation), failed)


def _start(observation: TailObservation, reason: str) -> Decision:
    return Decision(
        "start", f"starting the {observation.what} of {observation.source}: {reason}", _run_key(observation)
    )


def _run_key(observation: TailObservation) -> str:
    """One successor for each run, even if a tick repeats."""
    return f"{observation.source}:after:{observation.runs[0].run_id if observation.runs else 'none'}"


def _since(run: TailRun, observation: TailObservation) -> bool:
    """True when the run ended after the sensor was switched on."""
    return observation.watched_since is None or (run.ended or run.created) >= observation.watched_since


def _back_off(observation: TailObservation, rules: SupervisionRules) -> tuple[float, int]:
    """(seconds still to wait, quick failures in a row since the sensor was switched on)."""
    failures = 0
    for run in observation.runs:
        if run.state != "failure" or run.lived_s >= rules.quick_s or not _since(run, observation):
            break
        failures += 1
    if not failures:
        return 0.0, 0
    last = observation.runs[0]
    wait = backoff_s(rules.first_s, rules.max_s, failures)
    return max(0.0, (last.ended or last.created) + wait - observation.now), failures
