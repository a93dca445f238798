"""Status of runs in Dagster's storage."""

import dagster as dg

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
TERMINATED = "the run was terminated"


def find_run_end(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Why a run that executes has to end, although it may have received no signal. None if it should continue.

    Terminate sets the status before it sends the signal, so TERMINATED distinguishes it from a signal alone (Ctrl-C).
    """
    run = instance.get_run_by_id(run_id)
    if run is None:
        return "the run was deleted"
    if run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED):
        return TERMINATED
    if run.status not in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED):
        return f"the run is {run.status.value}"
    return None
