"""Pages for people: runs, a run with its log, jobs, the dashboard. What comes from data is escaped by the templates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from local.workspace import dashboard as boards
from local.workspace import joblog, payloads, states
from local.workspace.access import Gate
from local.workspace.engine import Engine
from local.workspace.errors import ApiError, invalid
from local.workspace.payloads import Int64, is_int64
from local.workspace.states import Attempt, Result, Run
from local.workspace.store import RunFilter

FOLDER = Path(__file__).parent
STATES = ("active", *(result.value for result in Result))
PAGE_ROWS = 50
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'self' http://127.0.0.1:* http://localhost:*"
)


def shown_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else "–"


def shown_duration(ms: int) -> str:
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def local_path(target: str) -> str:
    """`target` when it is a path of this server, else the start page: a login must not lead elsewhere."""
    good = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if good else "/"


def log_json(engine: Engine, attempt: Attempt, offset: int) -> dict[str, Any]:
    part = joblog.since(engine.process(attempt).log, offset)
    return {"text": part.text, "start": part.start, "end": part.size, "ended": attempt.ended}


def routes(engine: Engine, gate: Gate, board: boards.Dashboard) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    templates.filters |= {"time": shown_time, "duration": shown_duration}

    def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        text = templates.get_template(template).render(
            form_token=gate.form_token(request), now_ms=engine.now_ms(), path=request.url.path, **values
        )
        headers = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        return HTMLResponse(text, status, headers)

    def check_form(request: Request, form_token: str) -> None:
        if not gate.may_post_form(request, form_token):
            raise ApiError(403, "PERMISSION_DENIED", "This form is too old or not ours; open the page again.")

    def let_in(target: str) -> Response:
        answer = RedirectResponse(local_path(target), 303)
        answer.set_cookie(gate.cookie_name, gate.new_cookie(), httponly=True, samesite="lax", path="/")
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    @router.get("/login")
    def login(request: Request, next: str = "/", token: str = "") -> Response:
        if token:
            if gate.knows_token(token):
                return let_in(next)
            return page(request, "login.html", 403, target=local_path(next), wrong=True)
        return page(request, "login.html", target=local_path(next), wrong=False)

    @router.post("/login")
    def log_in(request: Request, token: str = Form(""), next: str = Form("/")) -> Response:
        if gate.knows_token(token.strip()):
            return let_in(next)
        return page(request, "login.html", 403, target=local_path(next), wrong=True)

    @router.get("/")
    def start() -> Response:
        return RedirectResponse("/runs", 303)

    @router.get("/runs")
    def runs(request: Request, state: str = "", job_id: str = "", before: str = "") -> Response:
        if (state and state not in STATES) or not is_int64(job_id or "0") or not is_int64(before or "0"):
            raise invalid("runs: state, job_id or before is not one that this page links to.")
        wanted = RunFilter(
            job_id=int(job_id) if job_id else None,
            active=True if state == "active" else None,
            result=state if state and state != "active" else None,
        )
        found = engine.list_runs(wanted, PAGE_ROWS + 1, before_id=int(before) if before else None)
        older = None
        if len(found) > PAGE_ROWS:
            older = "?" + urlencode({"state": state, "job_id": job_id, "before": found[PAGE_ROWS - 1].id})
        return page(
            request, "runs.html", runs=found[:PAGE_ROWS], states=STATES, state=state, job_id=job_id, older=older
        )

    @router.get("/runs/{run_id}")
    def one_run(request: Request, run_id: Int64) -> Response:
        run, asked = engine.find(run_id)
        attempts = engine.attempts(run.id)
        shown = asked or next((a for a in attempts if a.result is Result.FAILED), attempts[-1] if attempts else None)
        trace = ""
        if shown is not None and shown.result in states.FAILURES:
            trace = joblog.python_error(joblog.tail(engine.process(shown).log).text).trace
        log = log_json(engine, shown, 0) if shown is not None else None
        return page(
            request,
            "run.html",
            run=run,
            rows=[(attempt, run.task(attempt.task_key)) for attempt in attempts],
            shown=shown,
            upstream=states.upstream,
            given=given_parameters(run, shown) if shown else [],
            trace=trace,
            log=log,
            can_repair=run.ended and run.result is not Result.SUCCESS and bool(attempts),
        )

    @router.get("/runs/{run_id}/log")
    def run_log(run_id: Int64, offset: Int64 = 0) -> Response:
        _, attempt = engine.find(run_id)
        if attempt is None:
            raise invalid(f"{run_id} is not the run of a task.")
        return JSONResponse(log_json(engine, attempt, offset))

    @router.post("/runs/{run_id}/cancel")
    def cancel(request: Request, run_id: Int64, form_token: str = Form("")) -> Response:
        check_form(request, form_token)
        engine.cancel(run_id)
        return RedirectResponse(f"/runs/{run_id}", 303)

    @router.post("/runs/{run_id}/repair")
    def repair(request: Request, run_id: Int64, form_token: str = Form("")) -> Response:
        check_form(request, form_token)
        run = engine.run(run_id)
        past = run.repairs[-1].id or None
        engine.repair(payloads.RepairRun(run_id=run_id, rerun_all_failed_tasks=True, latest_repair_id=past))
        return RedirectResponse(f"/runs/{run_id}", 303)

    @router.get("/jobs")
    def jobs(request: Request) -> Response:
        rows = [(job, next(iter(engine.list_runs(RunFilter(job_id=job.id), 1)), None)) for job in engine.jobs()]
        return page(request, "jobs.html", rows=rows)

    @router.post("/jobs/{job_id}/run")
    def run_job(request: Request, job_id: Int64, form_token: str = Form("")) -> Response:
        check_form(request, form_token)
        return RedirectResponse(f"/runs/{engine.run_now(payloads.RunNow(job_id=job_id)).id}", 303)

    @router.get("/dashboard")
    def dashboard(request: Request) -> Response:
        return page(request, "dashboard.html", views=boards.VIEWS.values())

    @router.get("/dashboard/{name}")
    def view(name: str) -> Response:
        chosen = boards.VIEWS.get(name)
        if chosen is None:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"The dashboard has no view {name}.")
        answer = board.answer(chosen)
        charts = chosen.draw(answer.rows) if answer.rows else []
        html = templates.get_template("view.html").render(view=chosen, answer=answer, charts=charts)
        updated = answer.updated.isoformat() if answer.updated else None
        said = {"name": name, "updated": updated, "rows": answer.rows, "problem": answer.problem, "html": html}
        return JSONResponse(said, headers={"Cache-Control": "no-store"})

    return router


def given_parameters(run: Run, attempt: Attempt) -> list[str]:
    """What an attempt was started with; before that, what it would be given."""
    task = run.task(attempt.task_key)["spark_python_task"]
    return attempt.parameters or run.overriding.get("python_params", task.get("parameters", []))
