"""What the workspace remembers: jobs, runs and attempts, in one SQLite file.

Every write is durable when it returns (WAL, synchronous FULL). A row's whole content is JSON in `body`; the columns
beside it are those that are searched. An unchanged row is not written. Callers serialise their use (see
`engine.Engine.lock`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local.workspace.states import Attempt, Phase, Repair, Result, Run, Stop

WITH_SESSION = "body ->> 'session_id' <> '' AND NOT body ->> 'session_released'"
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS sequence (next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, name TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL, kind TEXT NOT NULL, active INTEGER NOT NULL,
    start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, result TEXT, token TEXT UNIQUE,
    deleted INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS runs_by_job ON runs (job_id, id);
CREATE INDEX IF NOT EXISTS runs_active ON runs (id) WHERE active;
CREATE TABLE IF NOT EXISTS attempts (id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS attempts_by_run ON attempts (run_id, id);
CREATE INDEX IF NOT EXISTS attempts_with_session ON attempts (id) WHERE {WITH_SESSION};
CREATE TABLE IF NOT EXISTS permissions (job_id INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
FIRST_ID = 1001


@dataclass
class Job:
    """A saved job; `settings` is the validated payload."""

    id: int
    created_ms: int
    settings: dict[str, Any]
    deleted: bool = False

    @property
    def name(self) -> str:
        return self.settings.get("name", "Untitled")


@dataclass(frozen=True)
class RunFilter:
    """Which runs a listing wants; an empty field does not filter."""

    job_id: int | None = None
    kind: str | None = None
    active: bool | None = None
    result: str | None = None
    start_from_ms: int = 0
    start_to_ms: int = 0


class Store:
    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.executescript(SCHEMA)
        if self.connection.execute("SELECT 1 FROM sequence").fetchone() is None:
            self.connection.execute("INSERT INTO sequence VALUES (?)", (FIRST_ID,))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is kept, or nothing. May be nested; the outermost decides."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def new_id(self) -> int:
        """Jobs, runs, attempts and repairs share one sequence, so an id names one thing."""
        row = self.connection.execute("UPDATE sequence SET next = next + 1 RETURNING next - 1").fetchone()
        return int(row[0])

    def save_job(self, job: Job) -> None:
        self.connection.execute(
            "INSERT INTO jobs VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, body = excluded.body",
            (job.id, job.name, json.dumps(asdict(job))),
        )

    def job(self, job_id: int) -> Job | None:
        row = self.connection.execute("SELECT body FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return Job(**json.loads(row[0])) if row else None

    def delete_job(self, job_id: int) -> None:
        self.connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        self.connection.execute("DELETE FROM permissions WHERE job_id = ?", (job_id,))

    def jobs(self) -> list[Job]:
        """All jobs, newest first."""
        rows = self.connection.execute("SELECT body FROM jobs ORDER BY id DESC")
        return [Job(**json.loads(body)) for (body,) in rows]

    def save_run(self, run: Run) -> None:
        self.connection.execute(
            "INSERT INTO runs (id, job_id, kind, active, start_ms, end_ms, result, token, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET active = excluded.active,"
            " start_ms = excluded.start_ms, end_ms = excluded.end_ms, result = excluded.result, body = excluded.body"
            " WHERE body <> excluded.body",
            (
                run.id,
                run.job_id,
                run.kind,
                not run.ended,
                run.start_ms or run.created_ms,
                run.end_ms,
                run.result,
                run.token,
                json.dumps(asdict(run)),
            ),
        )

    def run(self, run_id: int) -> Run | None:
        row = self.connection.execute("SELECT body FROM runs WHERE id = ? AND NOT deleted", (run_id,)).fetchone()
        return _run(row[0]) if row else None

    def active_runs(self) -> list[Run]:
        """Runs that have not ended, oldest first."""
        rows = self.connection.execute("SELECT body FROM runs WHERE active ORDER BY id")
        return [_run(body) for (body,) in rows]

    def run_of_token(self, token: str) -> tuple[int, bool] | None:
        """Run id and whether it was deleted."""
        row = self.connection.execute("SELECT id, deleted FROM runs WHERE token = ?", (token,)).fetchone()
        return (int(row[0]), bool(row[1])) if row else None

    def count_runs(self, job_id: int) -> int:
        return int(self.connection.execute("SELECT count(*) FROM runs WHERE job_id = ?", (job_id,)).fetchone()[0])

    def list_runs(
        self, wanted: RunFilter, limit: int, before_id: int | None = None, after_id: int | None = None, offset: int = 0
    ) -> list[Run]:
        """Newest first; `before_id` pages on to older runs, `after_id` back to newer ones."""
        conditions, values = ["NOT deleted"], []
        for condition, value in (
            ("job_id = ?", wanted.job_id),
            ("kind = ?", wanted.kind),
            ("active = ?", wanted.active),
            ("result = ?", wanted.result),
            ("start_ms >= ?", wanted.start_from_ms or None),
            ("start_ms <= ?", wanted.start_to_ms or None),
            ("id < ?", before_id),
            ("id > ?", after_id),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        direction = "ASC" if after_id is not None else "DESC"
        rows = self.connection.execute(
            f"SELECT body FROM runs WHERE {' AND '.join(conditions)} ORDER BY id {direction} LIMIT ? OFFSET ?",  # noqa: S608  only constants
            (*values, limit, offset),
        ).fetchall()
        return [_run(body) for (body,) in (reversed(rows) if after_id is not None else rows)]

    def delete_run(self, run_id: int) -> None:
        """The row stays, without its content, so that its idempotency token is still known."""
        self.connection.execute("UPDATE runs SET deleted = 1 WHERE id = ?", (run_id,))
        self.connection.execute("DELETE FROM attempts WHERE run_id = ?", (run_id,))

    def forget_runs(self, ended_before_ms: int) -> list[int]:
        """Removes runs that ended before that time for good; returns their attempts' ids."""
        old = "SELECT id FROM runs WHERE NOT active AND end_ms < ?"
        rows = self.connection.execute(
            f"DELETE FROM attempts WHERE run_id IN ({old}) RETURNING id",  # noqa: S608  only constants
            (ended_before_ms,),
        ).fetchall()
        self.connection.execute("DELETE FROM runs WHERE NOT active AND end_ms < ?", (ended_before_ms,))
        return [attempt_id for (attempt_id,) in rows]

    def save_attempt(self, attempt: Attempt) -> None:
        self.connection.execute(
            "INSERT INTO attempts VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
            " WHERE body <> excluded.body",
            (attempt.id, attempt.run_id, json.dumps(asdict(attempt))),
        )

    def attempt(self, attempt_id: int) -> Attempt | None:
        row = self.connection.execute("SELECT body FROM attempts WHERE id = ?", (attempt_id,)).fetchone()
        return _attempt(row[0]) if row else None

    def attempts(self, run_id: int) -> list[Attempt]:
        """All attempts of a run, oldest first."""
        rows = self.connection.execute("SELECT body FROM attempts WHERE run_id = ? ORDER BY id", (run_id,))
        return [_attempt(body) for (body,) in rows]

    def attempt_ids(self) -> set[int]:
        return {attempt_id for (attempt_id,) in self.connection.execute("SELECT id FROM attempts")}

    def attempts_with_session(self) -> list[Attempt]:
        """Attempts whose session on the shared Spark is not known to be gone, oldest first."""
        rows = self.connection.execute(f"SELECT body FROM attempts WHERE {WITH_SESSION} ORDER BY id")  # noqa: S608  only constants
        return [_attempt(body) for (body,) in rows]

    def delete_attempt(self, attempt_id: int) -> None:
        self.connection.execute("DELETE FROM attempts WHERE id = ?", (attempt_id,))

    def permissions(self, job_id: int) -> list[dict[str, Any]]:
        row = self.connection.execute("SELECT body FROM permissions WHERE job_id = ?", (job_id,)).fetchone()
        return json.loads(row[0]) if row else []

    def save_permissions(self, job_id: int, access_control: list[dict[str, Any]]) -> None:
        self.connection.execute(
            "INSERT INTO permissions VALUES (?, ?) ON CONFLICT (job_id) DO UPDATE SET body = excluded.body",
            (job_id, json.dumps(access_control)),
        )


def _result(value: str | None) -> Result | None:
    return Result(value) if value else None


def _stop(value: str | None) -> Stop | None:
    return Stop(value) if value else None


def _attempt(body: str) -> Attempt:
    attempt = Attempt(**json.loads(body))
    attempt.phase, attempt.result = Phase(attempt.phase), _result(attempt.result)
    attempt.stop = _stop(attempt.stop)
    return attempt


def _run(body: str) -> Run:
    run = Run(**json.loads(body))
    run.phase, run.result, run.stop = Phase(run.phase), _result(run.result), _stop(run.stop)
    run.repairs = [Repair(**repair) for repair in run.repairs]  # type: ignore[arg-type]
    for repair in run.repairs:
        repair.phase, repair.result = Phase(repair.phase), _result(repair.result)
    return run


def launches_of(file: Path, job_name: str) -> list[tuple[int, int]]:
    """Attempt and launch of all attempts of a job, newest first, for whoever is not the server; empty without it."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(
                "SELECT attempts.id, attempts.body ->> 'launch' FROM jobs JOIN runs ON runs.job_id = jobs.id"
                " JOIN attempts ON attempts.run_id = runs.id WHERE jobs.name = ? ORDER BY attempts.id DESC",
                (job_name,),
            ).fetchall()
    except sqlite3.OperationalError:
        return []
