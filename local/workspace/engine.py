"""Moves runs along: admits, starts, watches, retries, stops and ends them.

The store is the only truth; this holds nothing that a kill -9 would lose. One thread turns the crank (`turn`), the API
calls the public methods; `lock` serialises both.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from local.home import Home
from local.workspace import compute, joblog, payloads, references, states
from local.workspace.errors import ApiError, invalid, invalid_state, unknown
from local.workspace.processes import Outcome, Process, bury_children, end_all, job_spec
from local.workspace.standby import Standby
from local.workspace.states import Attempt, Ending, Phase, Repair, Result, Run, Stop
from local.workspace.store import Job, RunFilter, Store

log = logging.getLogger("workspace.engine")

DAY_MS = 86_400_000
BATCH_NICE = 5  # of jobs on the shared Spark: they can wait, a stream with a cluster of its own is read live
RELEASE_AGAIN_SECONDS = 30.0  # until Spark is told again of a session whose end it did not confirm
RELEASE_AT_STOP_SECONDS = 5.0
DEAF_SECONDS = 10.0  # after its grace period an attempt that is to end has ended, or its runner hangs too
STUCK_SECONDS = 60.0  # the longest turn waits some seconds for a driver that is called
STANDBY_LOOK_MS = 5_000
STANDBY_IDLE_MS = 900_000  # a driver stands by for so long when nothing runs that it could follow
MAX_ATTEMPTS_PER_TASK = 100  # an always-on task is retried for ever; older attempts and their logs go


@dataclass(frozen=True)
class Limits:
    """How much runs at once, how long a stopped job may take, how long ended runs are kept."""

    serverless: int = 2
    grace_seconds: float = 10.0
    keep_days: int = 60
    turn_seconds: float = 0.1
    standby_seconds: float = 15.0  # how long an always-on task runs before a driver is warmed for its next attempt
    standby_gives_way_seconds: float = 60.0  # and how long until that one no more gives way to it, which has caught up

    @classmethod
    def from_environment(cls) -> Limits:
        return cls(
            serverless=int(os.environ.get("FITNESS_SERVERLESS_SLOTS", cls.serverless)),
            grace_seconds=float(os.environ.get("FITNESS_STOP_GRACE_SECONDS", cls.grace_seconds)),
            standby_seconds=float(os.environ.get("FITNESS_STANDBY_AFTER_SECONDS", cls.standby_seconds)),
        )


@dataclass(frozen=True)
class Launch:
    """An attempt that is to be started; `cluster` is None for serverless."""

    attempt: Attempt
    python_file: str
    cluster: dict[str, Any] | None
    timeout_seconds: int


def epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class Engine:
    def __init__(
        self,
        home: Home,
        limits: Limits,
        release_session: Callable[[str], bool],
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        """`release_session` ends whatever a Spark Connect session still does; whether that is certain."""
        self.home, self.limits, self.release_session, self.now_ms = home, limits, release_session, now_ms
        self.folder = home.path / "workspace"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = Store(self.folder / "workspace.db")
        self.lock = threading.RLock()
        self.wake = threading.Event()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self.to_release, self.jobs_ended = threading.Event(), threading.Event()
        self.cleaner = threading.Thread(target=self._clean_up, name="session-cleaner", daemon=True)
        self.turned_at = time.monotonic()
        self.last_prune_ms = 0
        self.asked_at: dict[int, float] = {}  # attempt: when its process was first asked to end
        self.standby = Standby(self.folder / "standby")
        self.next_standby_ms, self.standby_wanted_ms = 0, now_ms()

    # ---- life of the engine

    def start(self) -> None:
        """Adopts what a former server left, then works on."""
        with self.lock:
            for run in self.store.active_runs():
                for attempt in self.store.attempts(run.id):
                    self._adopt(attempt)
            self.standby.adopt()
            folders = {int(folder.name) for folder in (self.folder / "attempts").glob("[0-9]*")}
            for forgotten in folders - self.store.attempt_ids():  # the server before died before it removed them
                self._remove_attempt_files(forgotten)
        self.thread.start()
        self.to_release.set()
        self.cleaner.start()

    def stop(self) -> None:
        """Ends all jobs (the stack goes down) and waits for them. After a kill -9 they go on."""
        self.stopping.set()
        self.wake.set()
        self.thread.join()
        with self.lock:
            started = self._started()
            asked = {run.id: run.stop for run in self.store.active_runs()}
            for attempt in started:
                attempt.stop = attempt.stop or asked[attempt.run_id] or Stop.SHUTDOWN
                self.store.save_attempt(attempt)
            self.standby.end()
            end_all([self.process(attempt) for attempt in started], self.limits.grace_seconds)
            for attempt in started:
                self._watch(attempt)
        self.jobs_ended.set()
        self.to_release.set()
        self.cleaner.join(RELEASE_AT_STOP_SECONDS)  # what Spark has not heard of by then, the next server tells it
        with self.lock:
            self.store.connection.close()

    def _started(self) -> list[Attempt]:
        attempts = [a for run in self.store.active_runs() for a in self.store.attempts(run.id)]
        return [attempt for attempt in attempts if attempt.phase in states.STARTED]

    def _work(self) -> None:
        while not self.stopping.is_set():
            try:
                busy = self.turn()
            except Exception:
                log.exception("A turn failed; trying again.")
                busy = True
            self.turned_at = time.monotonic()
            self.wake.wait(self.limits.turn_seconds if busy else 5 * self.limits.turn_seconds)
            self.wake.clear()

    @property
    def is_stuck(self) -> bool:
        """Whether it has died, or hangs in a turn, with its lock, for which all requests wait."""
        return not self.thread.is_alive() or time.monotonic() - self.turned_at > STUCK_SECONDS

    def _clean_up(self) -> None:
        last = False
        while not last:
            self.to_release.wait(RELEASE_AGAIN_SECONDS)
            self.to_release.clear()
            last = self.jobs_ended.is_set()  # asked first: what ended until then is released in this last round
            try:
                self.release_sessions()
            except Exception:
                log.exception("Sessions could not be released; trying again.")

    def release_sessions(self) -> None:
        """Whatever an attempt left on the shared Spark ends with it, however it ended, and whichever server saw it."""
        with self.lock:
            owed = [attempt for attempt in self.store.attempts_with_session() if attempt.ended]
        for attempt in owed:
            if not self.release_session(attempt.session_id):
                continue
            with self.lock, self.store.transaction():
                if known := self.store.attempt(attempt.id):
                    known.session_released = True
                    self.store.save_attempt(known)

    def turn(self) -> bool:
        """One look at everything that has not ended; whether there is anything."""
        bury_children()
        with self.lock:
            now = self.now_ms()
            if now - self.last_prune_ms > DAY_MS // 24:
                self.last_prune_ms = now
                self._prune(now)
            self._start_continuous_jobs()
            runs = self.store.active_runs()
            for run in runs:
                try:
                    with self.store.transaction():
                        launches = self._advance(run)
                    for launch in launches:  # known to the store first: what a kill -9 leaves is then adopted
                        self._launch(launch)
                except Exception:
                    log.exception("Run %s could not be moved along; trying again.", run.id)
            if now >= self.next_standby_ms:
                self.next_standby_ms = now + STANDBY_LOOK_MS
                try:
                    self._keep_standby(runs)
                except Exception:
                    log.exception("No driver stands by; trying again.")
            return bool(runs)

    def process(self, attempt: Attempt) -> Process:
        return Process(self.folder / "attempts" / str(attempt.id) / str(attempt.launch))

    def _prune(self, now: int) -> None:
        for attempt_id in self.store.forget_runs(now - self.limits.keep_days * DAY_MS):
            self._remove_attempt_files(attempt_id)

    def _remove_attempt_files(self, attempt_id: int) -> None:
        folder = self.folder / "attempts" / str(attempt_id)
        for launch in folder.glob("*"):
            Process(launch).remove()
        Process(folder).remove()

    # ---- jobs

    def create_job(self, settings: dict[str, Any]) -> Job:
        with self.lock, self.store.transaction():
            job = Job(self.store.new_id(), self.now_ms(), settings)
            self.store.save_job(job)
            self.wake.set()
            return job

    def job(self, job_id: int) -> Job:
        with self.lock:
            job = self.store.job(job_id)
        if job is None:
            raise unknown(f"Job {job_id}")
        return job

    def save_settings(self, job_id: int, settings: dict[str, Any]) -> None:
        with self.lock:
            job = self.job(job_id)
            job.settings = settings
            self.store.save_job(job)
            self.wake.set()

    def delete_job(self, job_id: int) -> None:
        """The job is gone at once; its active runs are cancelled."""
        with self.lock, self.store.transaction():
            self.job(job_id)
            self.cancel_all(job_id)
            self.store.delete_job(job_id)

    # ---- runs

    def submit(self, payload: payloads.Submit, settings: dict[str, Any]) -> Run:
        with self.lock, self.store.transaction():
            if earlier := self._run_of_token(payload.idempotency_token):
                return earlier
            # A submitted run belongs to a job of its own that is never listed.
            job_id, run_id = self.store.new_id(), self.store.new_id()
            run = Run(run_id, job_id, "SUBMIT_RUN", payload.run_name, settings, self.now_ms(), number_in_job=run_id)
            run.token = payload.idempotency_token
            run.job_parameters = payloads.resolved_job_parameters(settings, {})
            return self._begin(run, {task["task_key"] for task in run.tasks}, Phase.PENDING)

    def run_now(self, request: payloads.RunNow, trigger: str = "ONE_TIME") -> Run:
        with self.lock, self.store.transaction():
            if earlier := self._run_of_token(request.idempotency_token):
                return earlier
            job = self.job(request.job_id)
            if not job.settings.get("tasks"):
                raise invalid(f"Job {job.id} has no tasks to run.")
            run = Run(self.store.new_id(), job.id, "JOB_RUN", job.name, job.settings, self.now_ms(), trigger)
            run.number_in_job = run.id
            run.token = request.idempotency_token
            run.job_parameters = payloads.resolved_job_parameters(job.settings, request.job_parameters)
            if request.python_params is not None:
                run.overriding["python_params"] = request.python_params
            try:
                keys = states.selected_by(request.only, run.tasks) if request.only else None
            except KeyError as missing:
                raise invalid(f"only: job {job.id} has no task {missing}.") from None
            restart = "continuous" in job.settings and trigger == "ONE_TIME"  # that is what run-now does to such a job
            if restart:
                self.cancel_all(job.id)
            active = [r for r in self.store.active_runs() if r.job_id == job.id]  # also those that are being cancelled
            queue = request.queue or payloads.Queue(**job.settings.get("queue", {"enabled": False}))
            limit = job.settings.get("max_concurrent_runs", 1)
            verdict = states.admission(len(active), limit, queue.enabled or restart)
            if isinstance(verdict, Ending):
                run.phase, run.result, run.code, run.message = (
                    verdict.phase,
                    verdict.result,
                    verdict.code,
                    verdict.message,
                )
                run.start_ms = run.end_ms = now = run.created_ms
                run.repairs = [Repair(0, now, [], now, run.phase, run.result, run.message, run.code)]
                self.store.save_run(run)
                return run
            return self._begin(run, keys or {task["task_key"] for task in run.tasks}, verdict)

    def _begin(self, run: Run, keys: set[str], phase: Phase) -> Run:
        run.phase = phase
        run.start_ms = run.created_ms if phase is not Phase.QUEUED else 0
        run.settings = {**run.settings, "tasks": [task for task in run.tasks if task["task_key"] in keys]}
        run.repairs = [Repair(0, run.created_ms, self._new_attempts(run, [t["task_key"] for t in run.tasks], 0))]
        self.store.save_run(run)
        self.wake.set()
        return run

    def _new_attempts(self, run: Run, keys: list[str], repair_id: int) -> list[int]:
        newest = states.latest(self.store.attempts(run.id))
        made = []
        for key in keys:
            number = newest[key].number + 1 if key in newest else 0
            attempt = Attempt(self.store.new_id(), run.id, key, self.now_ms(), number=number, repair_id=repair_id)
            attempt.phase = Phase.BLOCKED if states.upstream(run.task(key)) else Phase.PENDING
            self.store.save_attempt(attempt)
            made.append(attempt.id)
        return made

    def _run_of_token(self, token: str | None) -> Run | None:
        found = None if token is None else self.store.run_of_token(token)
        if found is None:
            return None
        run_id, deleted = found
        if deleted:
            raise invalid_state(f"The run of idempotency_token {token!r} was deleted.")
        return self.run(run_id)

    def run(self, run_id: int) -> Run:
        with self.lock:
            run = self.store.run(run_id)
        if run is None:
            raise unknown(f"Run {run_id}")
        return run

    def find(self, run_id: int) -> tuple[Run, Attempt | None]:
        """The run, and the attempt if the id is that of a task's run."""
        with self.lock:
            if run := self.store.run(run_id):
                return run, None
            attempt = self.store.attempt(run_id)
            if attempt and (run := self.store.run(attempt.run_id)):
                return run, attempt
        raise unknown(f"Run {run_id}")

    def attempts(self, run_id: int) -> list[Attempt]:
        with self.lock:
            return self.store.attempts(run_id)

    def cancel(self, run_id: int) -> None:
        """Asks a run, or one task's run, to end; says nothing when it already has."""
        with self.lock, self.store.transaction():
            run, attempt = self.find(run_id)
            if attempt is not None:
                if not attempt.ended:
                    attempt.stop = attempt.stop or Stop.USER
                    self.store.save_attempt(attempt)
            elif not run.ended:
                run.stop = run.stop or Stop.USER
                self.store.save_run(run)
            self.wake.set()

    def cancel_all(self, job_id: int | None, only_queued: bool = False) -> None:
        with self.lock:
            for run in self.store.active_runs():
                if job_id in (None, run.job_id) and (not only_queued or run.phase is Phase.QUEUED):
                    self.cancel(run.id)

    def delete_run(self, run_id: int) -> None:
        with self.lock, self.store.transaction():
            run = self.run(run_id)
            if not run.ended:
                raise invalid_state(f"Run {run_id} is active; cancel it first.")
            attempts = self.store.attempts(run_id)
            self.store.delete_run(run_id)
        for attempt in attempts:
            self._remove_attempt_files(attempt.id)

    def repair(self, request: payloads.RepairRun) -> int:
        """Reruns tasks of an ended run, with the job's present settings; returns the repair's id."""
        with self.lock, self.store.transaction():
            run = self.run(request.run_id)
            if not run.ended:
                raise invalid_state(f"Run {run.id} is active; only an ended run can be repaired.")
            if run.phase is Phase.SKIPPED:
                raise invalid_state(f"Run {run.id} was skipped and has nothing to repair.")
            past = run.repairs[-1].id
            if past and request.latest_repair_id != past:
                raise invalid(f"latest_repair_id must be {past}, the latest repair of run {run.id}.")
            newest = states.latest(self.store.attempts(run.id))
            keys = set(request.rerun_tasks) or {k for k, a in newest.items() if a.result is not Result.SUCCESS}
            if strange := keys - newest.keys():
                raise invalid(f"Run {run.id} has no task {min(strange)}.")
            if not keys:
                raise invalid(f"Run {run.id} has no failed task.")
            if run.kind == "JOB_RUN" and (job := self.store.job(run.job_id)):
                tasks = [task for task in job.settings.get("tasks", []) if task["task_key"] in newest]
                if gone := newest.keys() - {task["task_key"] for task in tasks}:
                    raise invalid_state(f"Job {job.id} no longer has the task {min(gone)} of run {run.id}.")
                run.settings = {**job.settings, "tasks": tasks}
            if request.rerun_dependent_tasks:
                keys = states.downstream_of(run.tasks, keys)
            run.job_parameters |= request.job_parameters
            if request.python_params is not None:
                run.overriding["python_params"] = request.python_params
            repair_id = self.store.new_id()
            ordered = [task["task_key"] for task in run.tasks if task["task_key"] in keys]
            run.repairs.append(Repair(repair_id, self.now_ms(), self._new_attempts(run, ordered, repair_id)))
            run.phase, run.result, run.code, run.message = Phase.PENDING, None, "", ""
            run.stop, run.end_ms, run.active_ms = None, 0, 0
            self.store.save_run(run)
            self.wake.set()
            return repair_id

    def list_runs(self, wanted: RunFilter, limit: int, **page: Any) -> list[Run]:
        with self.lock:
            return self.store.list_runs(wanted, limit, **page)

    def jobs(self) -> list[Job]:
        with self.lock:
            return self.store.jobs()

    # ---- one turn of one run

    def _advance(self, run: Run) -> list[Launch]:
        if run.start_ms == 0 and not self._leaves_queue(run):
            return []
        attempts = self.store.attempts(run.id)
        timeout_ms = run.settings.get("timeout_seconds", 0) * 1000
        if timeout_ms and run.active_ms and run.stop is None and self.now_ms() >= run.active_ms + timeout_ms:
            run.stop = Stop.RUN_TIMEOUT
        for attempt in attempts:
            if attempt.ended:
                continue
            # Noted first: a server that was killed may have told the process without noting why.
            attempt.stop = attempt.stop or run.stop
            if attempt.phase in states.STARTED:
                self._watch(attempt)
            self._stop_if_asked(attempt)
        for key, attempt in states.latest(attempts).items():
            if attempt.ended and run.stop is None:
                at_ms = states.retry_at_ms(run.task(key), attempt)
                if at_ms is not None:
                    attempts.append(self._retry(run, attempt, at_ms))
        newest = states.latest(attempts)
        moved = True
        while moved:  # a task that is skipped decides over the next ones at once
            moved = any(self._open_gate(run, attempt, newest) for attempt in newest.values())
        launches = [launch for a in newest.values() if (launch := self._start_if_due(run, a, newest)) is not None]
        if all(attempt.ended for attempt in newest.values()):
            self._end_run(run, newest)
        else:
            run.phase = states.run_phase(run, newest)
        self.store.save_run(run)
        return launches

    def _leaves_queue(self, run: Run) -> bool:
        if run.stop is None:
            job = self.store.job(run.job_id)
            settings = job.settings if job else run.settings
            ahead = [r for r in self.store.active_runs() if r.job_id == run.job_id and r.id != run.id and r.start_ms]
            if len(ahead) >= settings.get("max_concurrent_runs", 1):
                return False
        run.start_ms = self.now_ms()
        return True

    def _watch(self, attempt: Attempt) -> None:
        """Notes the end of an attempt's process, if it has come."""
        process = self.process(attempt)
        lives = process.lives()  # asked first: a result written in between is then still found
        outcome = process.outcome()
        if outcome is not None:
            attempt.end(self._ending(attempt, process, outcome), outcome.end_ms)
        elif not lives:
            process.end_leftovers()
            attempt.end(LOST, self.now_ms())
        else:
            return
        self.store.save_attempt(attempt)
        if attempt.session_id:
            self.to_release.set()

    def _ending(self, attempt: Attempt, process: Process, outcome: Outcome) -> Ending:
        if outcome.how == "timedout":
            return Ending(Phase.TERMINATED, Result.TIMEDOUT, "RUN_EXECUTION_ERROR", "Task reached its timeout.")
        if outcome.how == "stopped" and attempt.stop is Stop.USER:
            return Ending(Phase.TERMINATED, Result.CANCELED, "USER_CANCELED", "Cancelled by a user.")
        if outcome.how == "stopped" and attempt.stop is Stop.RUN_TIMEOUT:
            return Ending(Phase.TERMINATED, Result.TIMEDOUT, "CANCELED", "The run reached its timeout.")
        if outcome.exit_code == 0:
            return Ending(Phase.TERMINATED, Result.SUCCESS, "SUCCESS", "")
        if outcome.how == "stopped":
            message = "The workspace server was stopped while this ran."
            return Ending(Phase.INTERNAL_ERROR, Result.FAILED, "INTERNAL_ERROR", message)
        if outcome.error:
            return Ending(Phase.INTERNAL_ERROR, Result.FAILED, "INTERNAL_ERROR", outcome.error)
        return Ending(Phase.TERMINATED, Result.FAILED, "RUN_EXECUTION_ERROR", failure(process, outcome.exit_code or 1))

    def _stop_if_asked(self, attempt: Attempt) -> None:
        if attempt.ended or attempt.stop is None:
            self.asked_at.pop(attempt.id, None)
            return
        if attempt.phase in states.STARTED:
            asked_at = self.asked_at.setdefault(attempt.id, time.monotonic())
            if time.monotonic() - asked_at < self.limits.grace_seconds + DEAF_SECONDS:
                self.process(attempt).ask_to_end()  # in every turn: a runner that has just begun hears no first one
            else:  # the runner hangs, which would have killed the job by now
                self.process(attempt).end_leftovers()
            attempt.phase = Phase.TERMINATING
        else:
            if attempt.stop is Stop.RUN_TIMEOUT:
                ending = Ending(Phase.SKIPPED, Result.TIMEDOUT, "CANCELED", "The run reached its timeout.")
            else:
                ending = Ending(Phase.SKIPPED, Result.CANCELED, "USER_CANCELED", "Cancelled before it started.")
            attempt.end(ending, self.now_ms())
        self.store.save_attempt(attempt)

    def _retry(self, run: Run, ended: Attempt, at_ms: int) -> Attempt:
        attempt = Attempt(self.store.new_id(), run.id, ended.task_key, self.now_ms(), number=ended.number + 1)
        attempt.retry, attempt.repair_id = ended.retry + 1, ended.repair_id
        attempt.phase, attempt.not_before_ms = Phase.WAITING_FOR_RETRY, at_ms
        self.store.save_attempt(attempt)
        run.repairs[-1].attempt_ids.append(attempt.id)
        tries = [a for a in self.store.attempts(run.id) if a.task_key == ended.task_key]
        for old in tries[:-MAX_ATTEMPTS_PER_TASK]:
            self.store.delete_attempt(old.id)
            self._remove_attempt_files(old.id)
            for repair in run.repairs:
                repair.attempt_ids = [known for known in repair.attempt_ids if known != old.id]
        return attempt

    def _open_gate(self, run: Run, attempt: Attempt, newest: dict[str, Attempt]) -> bool:
        if attempt.phase is not Phase.BLOCKED:
            return False
        task = run.task(attempt.task_key)
        needs = [newest[key] for key in states.upstream(task) if key in newest]  # `only` may have left some out
        if not all(need.ended for need in needs):
            return False
        results = [need.result for need in needs if need.result is not None]
        ending = states.gate(task.get("run_if", states.RunIf.ALL_SUCCESS), results)
        if ending is None:
            attempt.phase = Phase.PENDING
        else:
            attempt.end(ending, self.now_ms())
        self.store.save_attempt(attempt)
        return True

    def _start_if_due(self, run: Run, attempt: Attempt, newest: dict[str, Attempt]) -> Launch | None:
        waiting = (Phase.PENDING, Phase.QUEUED, Phase.WAITING_FOR_RETRY)
        if attempt.phase not in waiting or attempt.not_before_ms > self.now_ms():
            return None
        task = run.task(attempt.task_key)
        cluster = payloads.cluster_of(run.settings, task)
        launch = None
        if task.get("disabled", False):
            attempt.end(Ending(Phase.SKIPPED, Result.DISABLED, "DISABLED", "The task is disabled."), self.now_ms())
        elif cluster is None and self._serverless_in_use() >= self.limits.serverless:
            attempt.phase = Phase.QUEUED
        else:
            attempt.phase, attempt.start_ms = Phase.RUNNING, self.now_ms()
            attempt.session_id = str(uuid.uuid4()) if cluster is None else ""
            run.active_ms = run.active_ms or attempt.start_ms
            spark_task = task["spark_python_task"]
            given = run.overriding.get("python_params", spark_task.get("parameters", []))
            values = self.reference_values(run, attempt, newest)
            attempt.parameters = [references.substitute(text, values) for text in given]
            file = references.substitute(spark_task["python_file"], values)
            launch = Launch(attempt, file, cluster, task.get("timeout_seconds", 0))
        self.store.save_attempt(attempt)
        return launch

    def _launch(self, launch: Launch) -> None:
        attempt = launch.attempt
        try:
            file = compute.python_file(launch.python_file, self.home)
            environment = compute.environment_of(self.home, launch.cluster, attempt.session_id)
            argv = [sys.executable, str(file), *attempt.parameters]
            nice = BATCH_NICE if launch.cluster is None else 0
            spec = job_spec(argv, launch.timeout_seconds, self.limits.grace_seconds, nice)
            if not self.standby.becomes(self.process(attempt), spec, environment):
                self.process(attempt).launch(spec, environment)
        except Exception as error:  # whatever it is: else its end is that of a process that was killed
            message = (
                str(error) if isinstance(error, compute.LaunchError) else f"The job could not be started: {error}."
            )
            attempt.end(Ending(Phase.INTERNAL_ERROR, Result.FAILED, "RESOURCE_NOT_FOUND", message), self.now_ms())
            attempt.session_id = ""  # nobody has opened it
            self.store.save_attempt(attempt)

    def _keep_standby(self, runs: list[Run]) -> None:
        """An always-on task has a warm driver beside it, once its own has had the machine for itself for a while. When
        the task is stopped the driver stays for some time: as a rule it is started again."""
        now = self.now_ms()
        wanted = [task for run in runs for task in self._always_on(run, now)]
        if wanted:
            self.standby_wanted_ms = now
            chosen, since_ms = next((task for task in wanted if self.standby.is_made_for(*task[0])), wanted[0])
            self.standby.keep(*chosen, gives_way=now < since_ms + 1000 * self.limits.standby_gives_way_seconds)
        elif now - self.standby_wanted_ms > STANDBY_IDLE_MS:
            self.standby.end()

    def _always_on(self, run: Run, now: int) -> Iterator[tuple[tuple[str, dict[str, str]], int]]:
        """File and environment of tasks that are to run for ever, and have for a while; and since when (epoch ms)."""
        newest = states.latest(self.store.attempts(run.id))
        for key, attempt in newest.items():
            task = run.task(key)
            cluster = payloads.cluster_of(run.settings, task)
            settled = attempt.start_ms + 1000 * self.limits.standby_seconds <= now
            if cluster and task.get("max_retries") == -1 and attempt.phase is Phase.RUNNING and settled:
                values = self.reference_values(run, attempt, newest)
                file = references.substitute(task["spark_python_task"]["python_file"], values)
                with suppress(compute.LaunchError):  # it would be no use then
                    python_file = str(compute.python_file(file, self.home))
                    yield (python_file, compute.environment_of(self.home, cluster, "")), attempt.start_ms

    def _serverless_in_use(self) -> int:
        return sum(bool(attempt.session_id) for attempt in self._started())

    def _end_run(self, run: Run, newest: dict[str, Attempt]) -> None:
        ending = states.run_ending(run.tasks, newest, run.stop)
        run.phase, run.result, run.code, run.message = ending.phase, ending.result, ending.code, ending.message
        run.end_ms = max([self.now_ms(), *(attempt.end_ms for attempt in newest.values())])
        last = run.repairs[-1]
        last.phase, last.result, last.message, last.code = run.phase, run.result, run.message, run.code
        last.end_ms = run.end_ms

    def _adopt(self, attempt: Attempt) -> None:
        """An attempt that a former server had started: goes on, has its result, died, or never began."""
        if attempt.phase not in states.STARTED:
            return
        if self.process(attempt).never_began():
            log.info("Attempt %s had not begun; starting it again.", attempt.id)
            attempt.launch += 1
            attempt.phase, attempt.start_ms, attempt.session_id = Phase.PENDING, 0, ""
            self.store.save_attempt(attempt)

    def _start_continuous_jobs(self) -> None:
        for job in self.store.jobs():
            continuous = job.settings.get("continuous")
            if continuous is None or continuous.get("pause_status", "UNPAUSED") != "UNPAUSED":
                continue
            past = self.store.list_runs(RunFilter(job_id=job.id), 20)
            if past and not past[0].ended:
                continue
            failures = next((n for n, run in enumerate(past) if run.result not in states.FAILURES), len(past))
            if not past or self.now_ms() >= past[0].end_ms + states.continuous_delay_ms(failures):
                try:
                    self.run_now(payloads.RunNow(job_id=job.id), trigger="CONTINUOUS")
                except ApiError as error:
                    log.warning("Continuous job %s was not started: %s", job.id, error.message)

    # ---- what parameters may refer to

    def reference_values(self, run: Run, attempt: Attempt, newest: dict[str, Attempt]) -> dict[str, str]:
        values = {
            "job.id": str(run.job_id),
            "job.name": run.name,
            "job.run_id": str(run.id),
            "job.repair_count": str(len(run.repairs) - 1),
            "job.trigger.type": run.trigger.lower(),
            "task.name": attempt.task_key,
            "task.run_id": str(attempt.id),
            "task.execution_count": str(attempt.number + 1),
            "task.retry_count": str(attempt.retry),
            "workspace.id": "1",
            "workspace.url": self.home.workspace_url,
            **references.start_time_values(run.start_ms),
            **{f"job.parameters.{name}": value for name, value in run.job_parameters.items()},
        }
        for key, other in newest.items():
            values[f"tasks.{key}.run_id"] = str(other.id)
            values[f"tasks.{key}.result_state"] = (other.result or "").lower()
            values[f"tasks.{key}.execution_count"] = str(other.number + 1)
        return values


LOST = Ending(
    Phase.INTERNAL_ERROR,
    Result.FAILED,
    "INTERNAL_ERROR",
    "The process that ran this was killed, or the machine was restarted; how far the job got is not known.",
)


def failure(process: Process, exit_code: int) -> str:
    """Why a job's process failed, in one line."""
    if exit_code < 0:
        return f"The job was killed by signal {-exit_code}."
    found = joblog.python_error(joblog.tail(process.log).text)
    if found.trace or not found.error:
        return found.error or f"The job ended with exit code {exit_code}."
    return f"The job ended with exit code {exit_code}; its last words were: {found.error}"
