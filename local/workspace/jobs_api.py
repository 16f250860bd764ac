"""The Jobs API (2.2; 2.1 and 2.0 take the same). Fields as https://docs.databricks.com/api/workspace/jobs has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request

from local.workspace import joblog, payloads, states
from local.workspace.bodies import Arguments, without_nul
from local.workspace.engine import Engine
from local.workspace.errors import ApiError, invalid
from local.workspace.payloads import Int64, is_int64, parse
from local.workspace.states import Attempt, Phase, Repair, Result, Run, Stop
from local.workspace.store import Job, RunFilter

USER = "fitness@localhost"
ARRAY_PAGE = 100  # Databricks returns at most so many tasks of a run or job at once
OUTPUT_BYTES = 5 * 1024 * 1024 // 16
QUEUED_BY = {
    "MAX_CONCURRENT_RUNS_REACHED": "Waiting for a run of the job to end.",
    "ACTIVE_RUNS_LIMIT_REACHED": "Waiting for a free slot.",
}


# ---- what the API says about runs (pure)


def state_block(phase: Phase, result: Result | None, message: str, stop: Stop | None) -> dict[str, Any]:
    """The old `state`. RunState of Airflow's provider takes exactly these keys."""
    block: dict[str, Any] = {
        "life_cycle_state": phase.value,
        "state_message": message,
        "user_cancelled_or_timedout": stop in (Stop.USER, Stop.RUN_TIMEOUT) or result is Result.TIMEDOUT,
    }
    if result is not None:
        block["result_state"] = result.value
    return block


def status_block(phase: Phase, result: Result | None, code: str, message: str) -> dict[str, Any]:
    """The new `status`."""
    if result is None:
        block: dict[str, Any] = {"state": {Phase.WAITING_FOR_RETRY: "WAITING"}.get(phase, phase.value)}
        if phase is Phase.QUEUED:
            block["queue_details"] = {"code": code, "message": QUEUED_BY[code]}
        return block
    kind = "INTERNAL_ERROR" if phase is Phase.INTERNAL_ERROR and code == "INTERNAL_ERROR" else "CLIENT_ERROR"
    if result in (Result.SUCCESS, Result.SUCCESS_WITH_FAILURES):
        kind = "SUCCESS"
    return {"state": "TERMINATED", "termination_details": {"code": code, "type": kind, "message": message}}


def blocks(one: Run | Attempt | Repair, stop: Stop | None = None) -> dict[str, Any]:
    code = one.code
    if one.phase is Phase.QUEUED:
        of_job = isinstance(one, Run) and not one.start_ms
        code = "MAX_CONCURRENT_RUNS_REACHED" if of_job else "ACTIVE_RUNS_LIMIT_REACHED"
    return {
        "state": state_block(one.phase, one.result, one.message, stop),
        "status": status_block(one.phase, one.result, code, one.message),
    }


def durations(start_ms: int, end_ms: int) -> dict[str, int]:
    spent = max(end_ms - start_ms, 0) if end_ms and start_ms else 0
    return {"setup_duration": 0, "execution_duration": spent, "cleanup_duration": 0, "run_duration": spent}


def run_page(base_url: str, run_id: int) -> str:
    return f"{base_url}/runs/{run_id}"


def attempt_json(base_url: str, run: Run, attempt: Attempt, resolved: bool = False) -> dict[str, Any]:
    """A task of a run: its settings and what this attempt made of it."""
    task = run.task(attempt.task_key)
    started = attempt.start_ms or attempt.created_ms
    said = {
        **task,
        "run_if": task.get("run_if", states.RunIf.ALL_SUCCESS),
        "run_id": attempt.id,
        "attempt_number": attempt.number,
        "start_time": started,
        "end_time": attempt.end_ms,
        "queue_duration": max(started - attempt.created_ms, 0),
        "run_page_url": run_page(base_url, attempt.id),
        **durations(attempt.start_ms, attempt.end_ms),
        **blocks(attempt, attempt.stop),
    }
    if resolved:
        said["resolved_values"] = {"spark_python_task": {"parameters": attempt.parameters}}
    return said


def repair_json(repair: Repair) -> dict[str, Any]:
    said = {
        "type": "REPAIR" if repair.id else "ORIGINAL",
        "start_time": repair.start_ms,
        "end_time": repair.end_ms,
        "task_run_ids": repair.attempt_ids,
        **blocks(repair),
    }
    return said | ({"id": repair.id} if repair.id else {})


def run_json(base_url: str, run: Run) -> dict[str, Any]:
    """A run without its tasks."""
    said: dict[str, Any] = {
        "run_id": run.id,
        "job_run_id": run.id,
        "job_id": run.job_id,
        "number_in_job": run.number_in_job,
        "original_attempt_run_id": run.id,
        "attempt_number": 0,
        "run_name": run.name,
        "run_type": run.kind,
        "trigger": run.trigger,
        "creator_user_name": USER,
        "start_time": run.start_ms or run.created_ms,
        "end_time": run.end_ms,
        "queue_duration": max(run.start_ms - run.created_ms, 0),
        "run_page_url": run_page(base_url, run.id),
        "format": "MULTI_TASK",
        **durations(run.start_ms, run.end_ms),
        **blocks(run, run.stop),
    }
    defaults = {p["name"]: p.get("default", "") for p in run.settings.get("parameters", [])}
    if run.job_parameters:
        said["job_parameters"] = [
            {"name": name, "value": value, **({"default": defaults[name]} if name in defaults else {})}
            for name, value in run.job_parameters.items()
        ]
    if run.overriding:
        said["overriding_parameters"] = run.overriding
    if schedule := run.settings.get("schedule"):
        said["schedule"] = schedule
    return said


def attempt_run_json(base_url: str, run: Run, attempt: Attempt) -> dict[str, Any]:
    """The run of one task, asked for by its own id."""
    task = attempt_json(base_url, run, attempt)
    return {
        **run_json(base_url, run),
        "run_id": attempt.id,
        "job_run_id": run.id,
        "run_name": attempt.task_key,
        "attempt_number": attempt.number,
        **{name: task[name] for name in ("start_time", "end_time", "run_page_url", "state", "status")},
        **durations(attempt.start_ms, attempt.end_ms),
        "tasks": [task],
    }


def job_json(job: Job) -> dict[str, Any]:
    settings = {"name": job.name, "max_concurrent_runs": 1, "timeout_seconds": 0, **job.settings}
    settings["format"] = "MULTI_TASK"
    return {
        "job_id": job.id,
        "created_time": job.created_ms,
        "creator_user_name": USER,
        "run_as_user_name": USER,
        "settings": settings,
    }


ARRAYS = ("tasks", "job_clusters", "environments", "parameters")


def array_page(said: dict[str, Any], holder: dict[str, Any], page_token: str) -> dict[str, Any]:
    """One page of the long arrays in `holder` (which is `said` or within it)."""
    try:
        offset = int(page_token or 0)
    except ValueError:
        raise invalid(f"page_token {page_token!r} was not given out by this server.") from None
    more = any(len(holder.get(name, [])) > offset + ARRAY_PAGE for name in ARRAYS)
    for name in ARRAYS:
        if name in holder:
            holder[name] = holder[name][offset : offset + ARRAY_PAGE]
    return said | ({"next_page_token": str(offset + ARRAY_PAGE)} if more else {})


def output_json(engine: Engine, base_url: str, run: Run, attempt: Attempt) -> dict[str, Any]:
    """Output of one task's run; `error` and `error_trace` only when it failed."""
    tail = joblog.tail(engine.process(attempt).log, OUTPUT_BYTES)
    said: dict[str, Any] = {
        "metadata": attempt_run_json(base_url, run, attempt),
        "logs": tail.text,
        "logs_truncated": tail.truncated,
    }
    if attempt.result in (Result.FAILED, Result.TIMEDOUT):
        said["error"] = attempt.message
        if trace := joblog.python_error(tail.text).trace:
            said["error_trace"] = trace
    elif attempt.result is not None and attempt.message:
        said["info"] = attempt.message
    return said


# ---- the routes


def routes(engine: Engine, base_url: str) -> APIRouter:
    router = APIRouter(dependencies=[Depends(without_nul)])

    def route(method: str, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def register(handler: Callable[..., Any]) -> Callable[..., Any]:
            for version in ("2.0", "2.1", "2.2"):
                router.add_api_route(f"/api/{version}/jobs{path}", handler, methods=[method])
            return handler

        return register

    @route("POST", "/create")
    def create(given: Arguments) -> dict[str, Any]:
        return {"job_id": engine.create_job(parse(payloads.JobSettings, given).kept()).id}

    @route("GET", "/get")
    def get(given: Arguments) -> dict[str, Any]:
        said = job_json(engine.job(parse(payloads.JobId, given).job_id))
        return array_page(said, said["settings"], str(given.get("page_token", "")))

    @route("GET", "/list")
    def list_jobs(given: Arguments) -> dict[str, Any]:
        wanted = parse(payloads.ListJobs, given)
        jobs = [job for job in engine.jobs() if not wanted.name or job.name.lower() == wanted.name.lower()]
        direction, anchor = page_anchor(wanted.page_token)
        if direction == "n":
            rest = [job for job in jobs if job.id < anchor]
        elif direction == "p":
            newer = [job for job in jobs if job.id > anchor]
            rest = newer[-wanted.limit :]
        else:
            rest = jobs[wanted.offset :]
        page = rest[: wanted.limit]
        said: dict[str, Any] = {"jobs": [job_json(job) for job in page], "has_more": False}
        for one in said["jobs"]:
            if not wanted.expand_tasks:
                one["settings"] = {k: v for k, v in one["settings"].items() if k not in ARRAYS}
            else:
                one["has_more"] = any(len(one["settings"].get(name, [])) > ARRAY_PAGE for name in ARRAYS)
                array_page(one, one["settings"], "")
        return said | page_tokens([job.id for job in page], [job.id for job in jobs])

    @route("POST", "/update")
    def update(given: Arguments) -> dict[str, Any]:
        change = parse(payloads.UpdateJob, given)
        with engine.lock:  # from the reading to the writing: another update comes before or after, not between
            settings = engine.job(change.job_id).settings
            for field in change.fields_to_remove:
                settings = without(settings, field)
            merged = updated(settings, change.new_settings)
            engine.save_settings(change.job_id, parse(payloads.JobSettings, merged).kept())
        return {}

    @route("POST", "/reset")
    def reset(given: Arguments) -> dict[str, Any]:
        change = parse(payloads.ResetJob, given)
        engine.save_settings(change.job_id, change.new_settings.kept())
        return {}

    @route("POST", "/delete")
    def delete(given: Arguments) -> dict[str, Any]:
        engine.delete_job(parse(payloads.JobId, given).job_id)
        return {}

    @route("POST", "/run-now")
    def run_now(given: Arguments) -> dict[str, Any]:
        run = engine.run_now(parse(payloads.RunNow, given))
        return {"run_id": run.id, "number_in_job": run.number_in_job}

    @route("POST", "/runs/submit")
    def submit(given: Arguments) -> dict[str, Any]:
        payload = parse(payloads.Submit, payloads.with_tasks(given))
        return {"run_id": engine.submit(payload, payload.kept()).id}

    @route("GET", "/runs/get")
    def get_run(given: Arguments) -> dict[str, Any]:
        wanted = parse(payloads.GetRun, given)
        run, attempt = engine.find(wanted.run_id)
        if attempt is not None:
            return attempt_run_json(base_url, run, attempt)
        said = run_json(base_url, run)
        attempts = engine.attempts(run.id)
        said["tasks"] = [attempt_json(base_url, run, one, wanted.include_resolved_values) for one in attempts]
        if clusters := run.settings.get("job_clusters"):
            said["job_clusters"] = clusters
        if wanted.include_history:
            said["repair_history"] = [repair_json(repair) for repair in run.repairs]
        return array_page(said, said, wanted.page_token)

    @route("GET", "/runs/get-output")
    def get_output(given: Arguments) -> dict[str, Any]:
        run, attempt = engine.find(parse(payloads.RunId, given).run_id)
        if attempt is None:
            if len(run.tasks) != 1:
                raise invalid(
                    "Retrieving the output of runs with multiple tasks is not supported."
                    " Please retrieve the output of each individual task run instead."
                )
            attempts = engine.attempts(run.id)
            if not attempts:  # skipped before it had any
                return {"metadata": run_json(base_url, run), "error": run.message}
            attempt = attempts[-1]
        return output_json(engine, base_url, run, attempt)

    @route("GET", "/runs/list")
    def list_runs(given: Arguments) -> dict[str, Any]:
        wanted = parse(payloads.ListRuns, given)
        active = True if wanted.active_only else False if wanted.completed_only else None
        chosen = RunFilter(wanted.job_id, wanted.run_type, active, None, wanted.start_time_from, wanted.start_time_to)
        limit = wanted.limit or 25
        direction, anchor = page_anchor(wanted.page_token)
        page: dict[str, Any] = {"offset": wanted.offset}
        if direction:
            page = {"before_id" if direction == "n" else "after_id": anchor}
        runs = engine.list_runs(chosen, limit, **page)
        said: dict[str, Any] = {"runs": [run_json(base_url, run) for run in runs], "has_more": False}
        if wanted.expand_tasks:
            for run, one in zip(runs, said["runs"], strict=True):
                one["tasks"] = [attempt_json(base_url, run, attempt) for attempt in engine.attempts(run.id)]
                one["has_more"] = len(one["tasks"]) > ARRAY_PAGE
                array_page(one, one, "")
        around = [run.id for run in runs]
        if runs:
            around += [run.id for run in engine.list_runs(chosen, 1, before_id=runs[-1].id)]
            around += [run.id for run in engine.list_runs(chosen, 1, after_id=runs[0].id)]
        return said | page_tokens([run.id for run in runs], around)

    @route("POST", "/runs/cancel")
    def cancel(given: Arguments) -> dict[str, Any]:
        engine.cancel(parse(payloads.RunId, given).run_id)
        return {}

    @route("POST", "/runs/cancel-all")
    def cancel_all(given: Arguments) -> dict[str, Any]:
        wanted = parse(payloads.CancelAll, given)
        if wanted.job_id is None and not wanted.all_queued_runs:
            raise invalid("job_id: give the job whose runs are to be cancelled, or all_queued_runs.")
        if wanted.job_id is not None:
            engine.job(wanted.job_id)
        engine.cancel_all(wanted.job_id, wanted.all_queued_runs)
        return {}

    @route("POST", "/runs/repair")
    def repair(given: Arguments) -> dict[str, Any]:
        return {"repair_id": engine.repair(parse(payloads.RepairRun, given))}

    @route("POST", "/runs/delete")
    def delete_run(given: Arguments) -> dict[str, Any]:
        engine.delete_run(parse(payloads.RunId, given).run_id)
        return {}

    @router.get("/api/2.0/permissions/jobs/{job_id}")
    def permissions(job_id: Int64) -> dict[str, Any]:
        engine.job(job_id)
        with engine.lock:
            return permissions_json(job_id, engine.store.permissions(job_id))

    @router.get("/api/2.0/permissions/jobs/{job_id}/permissionLevels")
    def permission_levels(job_id: Int64) -> dict[str, Any]:
        engine.job(job_id)
        levels = ("CAN_VIEW", "CAN_MANAGE_RUN", "IS_OWNER", "CAN_MANAGE")
        return {"permission_levels": [{"permission_level": level, "description": level} for level in levels]}

    @router.api_route("/api/2.0/permissions/jobs/{job_id}", methods=["PUT", "PATCH"])
    def set_permissions(job_id: Int64, given: Arguments, request: Request) -> dict[str, Any]:
        engine.job(job_id)
        wanted = given.get("access_control_list", [])
        if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
            raise invalid("access_control_list: a list of objects is wanted.")
        with engine.lock:
            kept = engine.store.permissions(job_id) if request.method == "PATCH" else []
            wanted = [one for one in kept if not any(principal(one) == principal(new) for new in wanted)] + wanted
            engine.store.save_permissions(job_id, wanted)
        return permissions_json(job_id, wanted)

    @router.api_route("/api/{version}/jobs/{rest:path}", methods=["GET", "POST"])
    def no_such_path(version: str, rest: str) -> dict[str, Any]:
        raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for /api/{version}/jobs/{rest}.")

    return router


def principal(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry.get(name) for name in ("user_name", "group_name", "service_principal_name"))


def permissions_json(job_id: int, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Stored and shown, but not acted on: whoever has the token may do everything."""
    shown = [
        {
            **{k: v for k, v in entry.items() if k != "permission_level"},
            "all_permissions": [{"permission_level": entry.get("permission_level"), "inherited": False}],
        }
        for entry in [*entries, {"user_name": USER, "permission_level": "IS_OWNER"}]
    ]
    return {"object_id": f"/jobs/{job_id}", "object_type": "job", "access_control_list": shown}


def page_anchor(token: str) -> tuple[str, int]:
    """`n123` pages on after id 123, `p123` back before it; empty is the first page."""
    if not token:
        return "", 0
    if token[0] not in "np" or not is_int64(token[1:]):
        raise invalid(f"page_token {token!r} was not given out by this server.")
    return token[0], int(token[1:])


def page_tokens(page: list[int], around: list[int]) -> dict[str, Any]:
    """Tokens for the neighbours of `page` (ids, newest first) that exist in `around`."""
    said: dict[str, Any] = {}
    if page and any(other < page[-1] for other in around):
        said |= {"next_page_token": f"n{page[-1]}", "has_more": True}
    if page and any(other > page[0] for other in around):
        said["prev_page_token"] = f"p{page[0]}"
    return said


KEYED_ARRAYS = {"tasks": "task_key", "job_clusters": "job_cluster_key", "environments": "environment_key"}


def updated(settings: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`settings` after an update: fields are replaced; entries of keyed arrays are replaced one by one."""
    result = {**settings, **change}
    for field, key in KEYED_ARRAYS.items():
        if field in settings and isinstance(change.get(field), list):
            new = {entry.get(key): entry for entry in change[field] if isinstance(entry, dict)}
            kept = [new.pop(entry[key], entry) for entry in settings[field]]
            result[field] = [*kept, *new.values()]
    return result


def without(settings: dict[str, Any], field: str) -> dict[str, Any]:
    """`settings` without `field`; `tasks/KEY` names one entry of a keyed array, `a/b` a field within a field."""
    first, _, rest = field.partition("/")
    if not rest:
        return {name: value for name, value in settings.items() if name != first}
    inner = settings.get(first)
    if first in KEYED_ARRAYS and isinstance(inner, list):
        return {**settings, first: [entry for entry in inner if entry[KEYED_ARRAYS[first]] != rest]}
    return {**settings, first: without(inner, rest)} if isinstance(inner, dict) else settings
