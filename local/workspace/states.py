"""What becomes of runs, as pure functions: when a task may start, when it is tried again, how a run ended.

A *run* has tasks; every try of a task is an *attempt* with a run id of its own, as on Databricks. The words are those
of the Jobs API (life cycle state, result state, termination code). Times are epoch milliseconds, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Life cycle state of a run or of an attempt."""

    QUEUED = "QUEUED"
    BLOCKED = "BLOCKED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    WAITING_FOR_RETRY = "WAITING_FOR_RETRY"
    TERMINATED = "TERMINATED"
    SKIPPED = "SKIPPED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


TERMINAL = frozenset({Phase.TERMINATED, Phase.SKIPPED, Phase.INTERNAL_ERROR})
STARTED = frozenset({Phase.RUNNING, Phase.TERMINATING})


class Result(StrEnum):
    """Result state of a run or of an attempt that came to its end."""

    SUCCESS = "SUCCESS"
    SUCCESS_WITH_FAILURES = "SUCCESS_WITH_FAILURES"
    FAILED = "FAILED"
    TIMEDOUT = "TIMEDOUT"
    CANCELED = "CANCELED"
    MAXIMUM_CONCURRENT_RUNS_REACHED = "MAXIMUM_CONCURRENT_RUNS_REACHED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    UPSTREAM_CANCELED = "UPSTREAM_CANCELED"
    EXCLUDED = "EXCLUDED"
    DISABLED = "DISABLED"


FAILURES = frozenset({Result.FAILED, Result.TIMEDOUT, Result.UPSTREAM_FAILED, Result.MAXIMUM_CONCURRENT_RUNS_REACHED})
CANCELLATIONS = frozenset({Result.CANCELED, Result.UPSTREAM_CANCELED})
LEFT_OUT = frozenset({Result.EXCLUDED, Result.DISABLED})


class Stop(StrEnum):
    """Why something that ran was told to end."""

    USER = "user"
    RUN_TIMEOUT = "run timeout"
    SHUTDOWN = "shutdown"


class RunIf(StrEnum):
    """Condition on the tasks a task depends on, looked at once all of them have ended."""

    ALL_SUCCESS = "ALL_SUCCESS"
    AT_LEAST_ONE_SUCCESS = "AT_LEAST_ONE_SUCCESS"
    NONE_FAILED = "NONE_FAILED"
    ALL_DONE = "ALL_DONE"
    AT_LEAST_ONE_FAILED = "AT_LEAST_ONE_FAILED"
    ALL_FAILED = "ALL_FAILED"


@dataclass(frozen=True)
class Ending:
    """How a run or an attempt ended."""

    phase: Phase
    result: Result
    code: str
    message: str


@dataclass
class Attempt:
    """One try of one task of a run."""

    id: int
    run_id: int
    task_key: str
    created_ms: int
    number: int = 0  # counts retries and repairs
    retry: int = 0  # counts retries since the run began or was last repaired
    repair_id: int = 0  # 0: not part of a repair
    phase: Phase = Phase.PENDING
    result: Result | None = None
    code: str = ""
    message: str = ""
    not_before_ms: int = 0
    start_ms: int = 0
    end_ms: int = 0
    stop: Stop | None = None
    launch: int = 0  # a server that died before its runner began launches again, in another folder
    session_id: str = ""  # Spark Connect session; empty with a JVM of its own
    session_released: bool = False
    parameters: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.phase in TERMINAL

    def end(self, ending: Ending, now_ms: int) -> None:
        self.phase, self.result, self.code, self.message = ending.phase, ending.result, ending.code, ending.message
        self.end_ms = now_ms


@dataclass
class Repair:
    """A repair of a run, or (id 0) its original course."""

    id: int
    start_ms: int
    attempt_ids: list[int]
    end_ms: int = 0
    phase: Phase = Phase.RUNNING
    result: Result | None = None
    message: str = ""
    code: str = ""


@dataclass
class Run:
    """One run of a job, or a submitted one. `settings` is the validated payload it runs by."""

    id: int
    job_id: int
    kind: str  # JOB_RUN or SUBMIT_RUN
    name: str
    settings: dict[str, Any]
    created_ms: int
    trigger: str = "ONE_TIME"
    number_in_job: int = 0
    token: str | None = None
    job_parameters: dict[str, str] = field(default_factory=dict)
    overriding: dict[str, Any] = field(default_factory=dict)
    phase: Phase = Phase.PENDING
    result: Result | None = None
    code: str = ""
    message: str = ""
    start_ms: int = 0  # left the queue
    active_ms: int = 0  # first attempt of the current course started; the run's timeout counts from here
    end_ms: int = 0
    stop: Stop | None = None
    repairs: list[Repair] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.phase in TERMINAL

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return self.settings.get("tasks", [])

    def task(self, key: str) -> dict[str, Any]:
        return next(task for task in self.tasks if task["task_key"] == key)


def upstream(task: dict[str, Any]) -> list[str]:
    return [dependency["task_key"] for dependency in task.get("depends_on", [])]


def downstream_of(tasks: list[dict[str, Any]], keys: set[str]) -> set[str]:
    """`keys` and every task that depends on one of them, however indirectly."""
    found = set(keys)
    while grown := {t["task_key"] for t in tasks if t["task_key"] not in found and found & set(upstream(t))}:
        found |= grown
    return found


def cycle(tasks: list[dict[str, Any]]) -> list[str]:
    """Task keys that wait for each other; empty when the dependencies have an order."""
    waiting = {task["task_key"]: set(upstream(task)) for task in tasks}
    while free := [key for key, needs in waiting.items() if not needs & waiting.keys()]:
        for key in free:
            del waiting[key]
    return sorted(waiting)


def latest(attempts: list[Attempt]) -> dict[str, Attempt]:
    """The newest attempt of each task."""
    newest: dict[str, Attempt] = {}
    for attempt in sorted(attempts, key=lambda one: (one.number, one.id)):
        newest[attempt.task_key] = attempt
    return newest


def gate(run_if: str, results: list[Result]) -> Ending | None:
    """None when a task may start after upstream `results`, else how it ends without having started.

    A task whose upstream is all excluded is excluded, whatever its condition; one that handles failures also handles
    cancellations (docs.databricks.com/jobs/run-if).
    """
    if not results:
        return None
    failed = [r for r in results if r in FAILURES]
    cancelled = [r for r in results if r in CANCELLATIONS]
    succeeded = [r for r in results if r is Result.SUCCESS]
    open_for = {
        RunIf.ALL_SUCCESS: len(succeeded) == len(results),
        RunIf.AT_LEAST_ONE_SUCCESS: bool(succeeded),
        RunIf.NONE_FAILED: not failed and not cancelled and bool(succeeded),
        RunIf.ALL_DONE: True,
        RunIf.AT_LEAST_ONE_FAILED: bool(failed or cancelled),
        RunIf.ALL_FAILED: len(failed) + len(cancelled) == len(results),
    }
    condition = RunIf(run_if)
    all_excluded = all(result is Result.EXCLUDED for result in results)
    if open_for[condition] and not all_excluded:
        return None
    if condition in (RunIf.AT_LEAST_ONE_FAILED, RunIf.ALL_FAILED):
        result = Result.EXCLUDED
    elif failed:
        result = Result.UPSTREAM_FAILED
    elif cancelled:
        result = Result.UPSTREAM_CANCELED
    else:
        result = Result.EXCLUDED
    reason = {
        Result.UPSTREAM_FAILED: "an upstream task failed",
        Result.UPSTREAM_CANCELED: "an upstream task was cancelled",
        Result.EXCLUDED: f"the condition {condition} on its upstream tasks was not met",
    }[result]
    if all_excluded:
        reason = "all its upstream tasks were excluded"
    return Ending(Phase.SKIPPED, result, "SKIPPED", f"Not run: {reason}.")


MIN_RETRY_MILLIS = 1_000  # a task that cannot start must not spin


def retry_at_ms(task: dict[str, Any], attempt: Attempt) -> int | None:
    """When an ended attempt is tried again, in epoch milliseconds, or None. `max_retries` -1 tries for ever; the
    interval counts from the start of the failed attempt (Jobs API 2.2)."""
    if attempt.result not in (Result.FAILED, Result.TIMEDOUT) or attempt.stop in (Stop.USER, Stop.RUN_TIMEOUT):
        return None
    if attempt.result is Result.TIMEDOUT and not task.get("retry_on_timeout", False):
        return None
    allowed = task.get("max_retries", 0)
    if allowed != -1 and attempt.retry >= allowed:
        return None
    start_ms = min(attempt.start_ms or attempt.end_ms, attempt.end_ms)  # the clock may have been set back
    return start_ms + max(task.get("min_retry_interval_millis", 0), MIN_RETRY_MILLIS)


def run_ending(tasks: list[dict[str, Any]], newest: dict[str, Attempt], stop: Stop | None) -> Ending:
    """How a run ended whose tasks all have. The leaves decide; a failure that none of them shows is still named."""
    results = {key: attempt.result or Result.FAILED for key, attempt in newest.items()}
    if stop is Stop.USER and any(result is Result.CANCELED for result in results.values()):
        return Ending(Phase.TERMINATED, Result.CANCELED, "USER_CANCELED", "Run cancelled by a user.")
    if stop is Stop.RUN_TIMEOUT and any(result is Result.TIMEDOUT for result in results.values()):
        return Ending(Phase.TERMINATED, Result.TIMEDOUT, "CANCELED", "Run reached its timeout and was stopped.")
    needed = {key for task in tasks for key in upstream(task)}
    leaves = [result for key, result in results.items() if key not in needed]
    culprits = [a for a in newest.values() if a.result in (Result.FAILED, Result.TIMEDOUT, Result.CANCELED)]
    message = " ".join(f"Task {a.task_key} {_verb(a)}: {a.message}" for a in culprits)
    if any(result in FAILURES for result in leaves):
        broken = [a for a in culprits if a.result is Result.FAILED]
        if not broken:
            return Ending(Phase.TERMINATED, Result.TIMEDOUT, "RUN_EXECUTION_ERROR", message)
        internal = any(a.phase is Phase.INTERNAL_ERROR for a in broken)
        phase = Phase.INTERNAL_ERROR if internal else Phase.TERMINATED
        return Ending(phase, Result.FAILED, broken[0].code if internal else "RUN_EXECUTION_ERROR", message)
    if any(result in CANCELLATIONS for result in leaves):
        return Ending(Phase.TERMINATED, Result.CANCELED, "USER_CANCELED", message)
    if any(result in FAILURES for result in results.values()):
        return Ending(Phase.TERMINATED, Result.SUCCESS_WITH_FAILURES, "SUCCESS_WITH_FAILURES", message)
    return Ending(Phase.TERMINATED, Result.SUCCESS, "SUCCESS", "")


def _verb(attempt: Attempt) -> str:
    return {Result.TIMEDOUT: "timed out", Result.CANCELED: "was cancelled"}.get(
        attempt.result or Result.FAILED, "failed with message"
    )


def run_phase(run: Run, newest: dict[str, Attempt]) -> Phase:
    """Life cycle state of a run that has left its job's queue and has not ended."""
    phases = [attempt.phase for attempt in newest.values()]
    if run.stop is not None:
        return Phase.TERMINATING
    if any(phase in STARTED for phase in phases):
        return Phase.RUNNING
    if Phase.WAITING_FOR_RETRY in phases:
        return Phase.WAITING_FOR_RETRY
    if run.active_ms:
        return Phase.RUNNING
    return Phase.QUEUED if Phase.QUEUED in phases else Phase.PENDING


def admission(active: int, limit: int, queue: bool) -> Ending | Phase:
    """What becomes of a new run of a job that has `active` runs and may have `limit`."""
    if active < limit:
        return Phase.PENDING
    if queue and limit > 0:
        return Phase.QUEUED
    return Ending(
        Phase.SKIPPED,
        Result.MAXIMUM_CONCURRENT_RUNS_REACHED,
        "MAX_CONCURRENT_RUNS_EXCEEDED",
        f"Run skipped: the job already has {active} active runs and max_concurrent_runs is {limit}.",
    )


def continuous_delay_ms(consecutive_failures: int) -> int:
    """Pause before a continuous job's next run: a second, doubling with each failure in a row, at most 5 minutes."""
    return min(1_000 * 2**consecutive_failures, 300_000) if consecutive_failures < 20 else 300_000


def selected_by(only: list[str], tasks: list[dict[str, Any]]) -> set[str]:
    """Task keys that `only` of run-now names: `key`, `+key` with what it needs, `key+` with what needs it."""
    by_key = {task["task_key"]: task for task in tasks}
    chosen: set[str] = set()
    for term in only:
        key = term.strip("+")
        if key not in by_key:
            raise KeyError(key)
        chosen.add(key)
        if term.endswith("+"):
            chosen |= downstream_of(tasks, {key})
        if term.startswith("+"):
            frontier = [key]
            while frontier:
                needs = [need for need in upstream(by_key[frontier.pop()]) if need not in chosen]
                chosen |= set(needs)
                frontier += needs
    return chosen
