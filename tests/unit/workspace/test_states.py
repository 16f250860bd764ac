"""What becomes of runs: the pure rules."""

from __future__ import annotations

from typing import Any

import pytest

from local.workspace import states
from local.workspace.states import Attempt, Ending, Phase, Result, Stop

S, F, C, T = Result.SUCCESS, Result.FAILED, Result.CANCELED, Result.TIMEDOUT
X, UF, UC = Result.EXCLUDED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED


def attempt(key: str = "a", result: Result | None = None, **fields: Any) -> Attempt:
    phase = fields.pop("phase", Phase.TERMINATED if result else Phase.PENDING)
    return Attempt(fields.pop("id", 1), 9, key, 0, result=result, phase=phase, **fields)


@pytest.mark.parametrize(
    ("run_if", "results", "expected"),
    [
        ("ALL_SUCCESS", [S, S], None),
        ("ALL_SUCCESS", [S, F], UF),
        ("ALL_SUCCESS", [S, UF], UF),
        ("ALL_SUCCESS", [S, T], UF),
        ("ALL_SUCCESS", [S, C], UC),
        ("ALL_SUCCESS", [S, X], X),
        ("AT_LEAST_ONE_SUCCESS", [S, F], None),
        ("AT_LEAST_ONE_SUCCESS", [C, F], UF),
        ("NONE_FAILED", [S, X], None),
        ("NONE_FAILED", [X, X], X),
        ("NONE_FAILED", [S, F], UF),
        ("NONE_FAILED", [S, UC], UC),
        ("ALL_DONE", [F, C, X], None),
        ("ALL_DONE", [X, X], X),
        ("AT_LEAST_ONE_FAILED", [S, F], None),
        ("AT_LEAST_ONE_FAILED", [S, C], None),
        ("AT_LEAST_ONE_FAILED", [S, S], X),
        ("ALL_FAILED", [F, T], None),
        ("ALL_FAILED", [F, C, UC], None),
        ("ALL_FAILED", [X, X], X),
        ("ALL_FAILED", [F, S], X),
    ],
)
def test_a_task_starts_when_its_condition_on_upstream_holds(
    run_if: str, results: list[Result], expected: Result | None
) -> None:
    ending = states.gate(run_if, results)
    assert (ending.result if ending else None) == expected
    assert ending is None or ending.phase is Phase.SKIPPED


def test_a_task_without_upstream_always_starts() -> None:
    assert states.gate("ALL_FAILED", []) is None


@pytest.mark.parametrize(
    ("task", "tried", "expected"),
    [
        ({}, attempt(result=F), None),
        ({"max_retries": 1}, attempt(result=F), 1_000),
        ({"max_retries": 1}, attempt(result=F, retry=1), None),
        ({"max_retries": 1, "min_retry_interval_millis": 60_000}, attempt(result=F), 60_000),
        ({"max_retries": -1}, attempt(result=F, retry=5_000), 1_000),
        ({"max_retries": -1}, attempt(result=S), None),
        ({"max_retries": -1}, attempt(result=F, stop=Stop.USER), None),
        ({"max_retries": -1}, attempt(result=F, stop=Stop.SHUTDOWN), 1_000),
        ({"max_retries": 2}, attempt(result=T), None),
        ({"max_retries": 2, "retry_on_timeout": True}, attempt(result=T), 1_000),
        ({"max_retries": 2}, attempt(result=UF), None),
        (
            {"max_retries": 1, "min_retry_interval_millis": 60_000},
            attempt(result=F, start_ms=7_000, end_ms=90_000),
            67_000,
        ),
        ({"max_retries": 1}, attempt(result=F, end_ms=90_000), 91_000),  # never started
        ({"max_retries": 1}, attempt(result=F, start_ms=90_000, end_ms=7_000), 8_000),  # the clock was set back
    ],
    ids=lambda value: str(value)[:60],
)
def test_failures_are_retried_as_the_task_allows(task: dict[str, Any], tried: Attempt, expected: int | None) -> None:
    assert states.retry_at_ms(task, tried) == expected


CHAIN = [{"task_key": "a"}, {"task_key": "b", "depends_on": [{"task_key": "a"}]}]


@pytest.mark.parametrize(
    ("a", "b", "stop", "phase", "result"),
    [
        (attempt("a", S), attempt("b", S), None, Phase.TERMINATED, S),
        (attempt("a", F), attempt("b", UF, phase=Phase.SKIPPED), None, Phase.TERMINATED, F),
        (attempt("a", F), attempt("b", S), None, Phase.TERMINATED, Result.SUCCESS_WITH_FAILURES),
        (attempt("a", S), attempt("b", F, phase=Phase.INTERNAL_ERROR), None, Phase.INTERNAL_ERROR, F),
        (attempt("a", S), attempt("b", T), None, Phase.TERMINATED, T),
        (attempt("a", S), attempt("b", X, phase=Phase.SKIPPED), None, Phase.TERMINATED, S),
        (attempt("a", C), attempt("b", C), Stop.USER, Phase.TERMINATED, C),
        (attempt("a", C), attempt("b", UC, phase=Phase.SKIPPED), None, Phase.TERMINATED, C),
        (attempt("a", S), attempt("b", S), Stop.USER, Phase.TERMINATED, S),
        (attempt("a", S), attempt("b", T), Stop.RUN_TIMEOUT, Phase.TERMINATED, T),
    ],
    ids=[
        "all succeeded",
        "failure upstream",
        "failure that the leaf survived",
        "lost process",
        "timeout",
        "leaf left out",
        "cancelled",
        "task cancelled",
        "cancelled too late",
        "run timeout",
    ],
)
def test_leaves_decide_how_a_run_ended(a: Attempt, b: Attempt, stop: Stop | None, phase: Phase, result: Result) -> None:
    ending = states.run_ending(CHAIN, {"a": a, "b": b}, stop)
    assert (ending.phase, ending.result) == (phase, result)


def test_a_failed_run_names_the_task_and_its_error() -> None:
    newest = {"a": attempt("a", F, message="ValueError: no"), "b": attempt("b", UF)}
    assert states.run_ending(CHAIN, newest, None).message == "Task a failed with message: ValueError: no"


def test_a_run_beyond_the_limit_is_queued_or_skipped() -> None:
    assert states.admission(0, 1, queue=False) is Phase.PENDING
    assert states.admission(1, 1, queue=True) is Phase.QUEUED
    skipped = states.admission(1, 1, queue=False)
    assert isinstance(skipped, Ending)
    assert skipped.result is Result.MAXIMUM_CONCURRENT_RUNS_REACHED


def test_a_job_that_may_have_no_runs_does_not_queue_them_for_ever() -> None:
    assert isinstance(states.admission(0, 0, queue=True), Ending)


def test_the_newest_attempt_of_a_task_counts() -> None:
    first, second = attempt("a", F, id=1), attempt("a", S, id=2, number=1)
    assert states.latest([second, first])["a"] is second


def test_tasks_that_wait_for_each_other_are_found() -> None:
    circle = [
        {"task_key": "a", "depends_on": [{"task_key": "b"}]},
        {"task_key": "b", "depends_on": [{"task_key": "a"}]},
        {"task_key": "c"},
    ]
    assert states.cycle(circle) == ["a", "b"]
    assert states.cycle(CHAIN) == []


DIAMOND = [
    {"task_key": "top"},
    {"task_key": "left", "depends_on": [{"task_key": "top"}]},
    {"task_key": "right", "depends_on": [{"task_key": "top"}]},
    {"task_key": "end", "depends_on": [{"task_key": "left"}, {"task_key": "right"}]},
]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["left"], {"left"}),
        (["+left"], {"left", "top"}),
        (["left+"], {"left", "end"}),
        (["+end"], {"top", "left", "right", "end"}),
        (["left", "right"], {"left", "right"}),
    ],
)
def test_only_selects_tasks_and_their_neighbours(only: list[str], expected: set[str]) -> None:
    assert states.selected_by(only, DIAMOND) == expected


def test_a_continuous_job_that_keeps_failing_is_started_ever_more_slowly() -> None:
    assert [states.continuous_delay_ms(n) for n in (0, 1, 3, 50)] == [1_000, 2_000, 8_000, 300_000]
