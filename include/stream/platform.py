"""The stream's job on the Databricks workspace: as it should be, as it is, and its runs (Jobs API 2.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from include.stream.judge import ENDING, Run

Call = Callable[[str, str, dict[str, Any]], dict[str, Any]]  # method, path below /api/, document -> answer

ENDED = {"TERMINATED", "SKIPPED", "INTERNAL_ERROR"}


@dataclass(frozen=True)
class StreamJob:
    """One job of a given name, and the calls it takes. `call` raises whatever its client raises."""

    call: Call
    name: str

    def find(self) -> int | None:
        """The job's id. Of several with the name (two that created it at once) all agree on the first."""
        jobs = self._pages("2.2/jobs/list", "jobs", {"name": self.name})
        return min((int(job["job_id"]) for job in jobs if job["settings"]["name"] == self.name), default=None)

    def ensure(self, settings: dict[str, Any]) -> tuple[int, str]:
        """The job exists with these settings; its id and what was done: `created`, `reset` or `unchanged`."""
        job_id = self.find()
        if job_id is None:
            created = int(self.call("POST", "2.2/jobs/create", settings)["job_id"])
            first = self.find()
            if first is not None and first != created:  # somebody created it at the same time
                self.call("POST", "2.2/jobs/delete", {"job_id": created})
                return first, "unchanged"
            return created, "created"
        actual = self.call("GET", "2.2/jobs/get", {"job_id": job_id})["settings"]
        if contains(actual, settings):
            return job_id, "unchanged"
        self.call("POST", "2.2/jobs/reset", {"job_id": job_id, "new_settings": settings})
        return job_id, "reset"

    def active_runs(self, job_id: int) -> tuple[Run, ...]:
        """Newest first, and those last that the platform is ending."""
        runs = self._pages(
            "2.2/jobs/runs/list", "runs", {"job_id": job_id, "active_only": "true", "expand_tasks": "true"}
        )
        return tuple(sorted(map(_run, runs), key=lambda run: run.state == ENDING))

    def last_run(self, job_id: int) -> tuple[str, str]:
        """The newest ended run and how it ended, in the platform's words; both empty when there was none."""
        query = {"job_id": job_id, "completed_only": "true", "limit": 1}
        for run in self.call("GET", "2.2/jobs/runs/list", query).get("runs", []):
            state = run["state"]
            words = f"{state.get('result_state', state['life_cycle_state'])} {state.get('state_message', '')}"
            return str(run["run_id"]), words.strip()
        return "", ""

    def start(self, job_id: int, token: str) -> str:
        """Start a run; the same token starts no second one."""
        started = self.call("POST", "2.2/jobs/run-now", {"job_id": job_id, "idempotency_token": token[:64]})
        return str(started["run_id"])

    def cancel(self, run_id: str) -> None:
        self.call("POST", "2.2/jobs/runs/cancel", {"run_id": int(run_id)})

    def wait_until_ended(
        self, job_id: int, runs: Iterable[Run], seconds: float, sleep: Callable[[float], None] = time.sleep
    ) -> bool:
        """Whether none of these runs is active any more, at the latest after `seconds`."""
        deadline, awaited = time.monotonic() + seconds, {run.run_id for run in runs}
        while any(run.run_id in awaited for run in self.active_runs(job_id)):
            if time.monotonic() >= deadline:
                return False
            sleep(1)
        return True

    def _pages(self, path: str, items: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {}
        while True:
            answer = self.call("GET", path, {**query, **page})
            yield from answer.get(items, [])
            if not answer.get("next_page_token"):
                return
            page = {"page_token": answer["next_page_token"]}


def _run(run: dict[str, Any]) -> Run:
    """The run as its newest attempt is: the stream is the job's only task, and retries are the task's. Its time starts
    when it has its cluster."""
    task = max(run.get("tasks") or [run], key=lambda attempt: int(attempt.get("attempt_number") or 0))
    started = int(task.get("start_time") or run["start_time"]) + int(task.get("setup_duration") or 0)
    state = (task.get("state") or run["state"])["life_cycle_state"]
    return Run(
        run_id=str(run["run_id"]),
        state=run["state"]["life_cycle_state"] if state in ENDED else state,
        started_at=datetime.fromtimestamp(started / 1000, UTC),
        attempt=int(task.get("attempt_number") or 0),
    )


def contains(actual: Any, wanted: Any) -> bool:
    """Whether `actual` says what `wanted` says; the platform adds defaults of its own and turns numbers into text."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(key in actual and contains(actual[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(contains(have, want) for have, want in zip(actual, wanted, strict=True))
        )
    return bool(str(actual) == str(wanted))
