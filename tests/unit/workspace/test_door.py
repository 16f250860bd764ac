"""What the server refuses before it does anything: the application without its engine's thread, so nothing runs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi.testclient import TestClient

from local.home import Home
from local.workspace import jobs_api, sql_api
from local.workspace.engine import Limits
from local.workspace.server import application

HUGE = "9" * 26
ENDLESS = "9" * 5000  # more digits than Python makes a number of
JOBS, SQL = "/api/2.2/jobs", "/api/2.0/sql/statements"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = application(Home(tmp_path_factory.mktemp("door"), 30_000), "token", Limits())
    headers = {"Authorization": "Bearer token"}
    client = TestClient(app, headers=headers, raise_server_exceptions=False, follow_redirects=False)
    yield client
    client.close()


def run(*parameters: Any, **fields: Any) -> dict[str, Any]:
    python = {"python_file": "dbfs:/a.py", "parameters": list(parameters)}
    return {"run_name": "r", "tasks": [{"task_key": "a", "spark_python_task": python}], **fields}


@pytest.mark.parametrize(
    "body",
    [
        run(run_name="a\ud800b"),
        run("\ud800"),
        run(tags={"\udfff": "x"}),
        run(weight=float("inf")),
        run(weight=float("nan")),
    ],
    ids=["name", "parameter", "key", "infinite", "nan"],
)
def test_what_could_not_be_shown_again_is_refused(api: TestClient, body: dict[str, Any]) -> None:
    answer = api.post(f"{JOBS}/runs/submit", content=json.dumps(body))
    assert (answer.status_code, answer.json()["error_code"]) == (400, "MALFORMED_REQUEST")
    assert api.get(f"{JOBS}/runs/list").status_code == api.get("/runs").status_code == 200


def test_a_whole_pair_of_surrogates_is_a_character(api: TestClient) -> None:
    answer = api.post(f"{JOBS}/create", content=b'{"name": "run \\ud83c\\udfc3"}')
    assert api.get(f"{JOBS}/get", params=answer.json()).json()["settings"]["name"] == "run \U0001f3c3"


@pytest.mark.parametrize("path", [SQL, f"{JOBS}/create", f"{JOBS}/runs/submit"])
@pytest.mark.parametrize(
    "body",
    ["[" * 100_000, '{"a":' * 50_000, '{"a":' * 200 + "1" + "}" * 200],
    ids=["lists", "objects", "whole"],
)
def test_a_body_that_is_nested_without_measure_is_refused(api: TestClient, path: str, body: str) -> None:
    answer = api.post(path, content=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    "body",
    [
        run("a\0b"),
        run(run_name="\0"),
        {"job_id": 1, "python_params": ["\0"]},
        {"job_id": 1, "job_parameters": {"\0": "x"}},
    ],
    ids=["parameter", "name", "python_params", "job_parameters"],
)
def test_a_nul_which_no_process_can_be_given_is_refused(api: TestClient, body: dict[str, Any]) -> None:
    answer = api.post(f"{JOBS}/run-now" if "job_id" in body else f"{JOBS}/runs/submit", json=body)
    assert answer.status_code == 400
    assert "NUL" in answer.json()["message"]


@pytest.mark.parametrize("number", [HUGE, ENDLESS], ids=["huge", "endless"])
@pytest.mark.parametrize(
    "path",
    [
        "/runs/{}",
        "/runs/{}/log",
        "/runs?job_id={}",
        "/runs?before={}",
        "/api/2.0/permissions/jobs/{}",
        f"{JOBS}/get?job_id={{}}",
        f"{JOBS}/list?page_token=n{{}}",
        f"{JOBS}/list?offset={{}}",
        f"{JOBS}/runs/get?run_id={{}}",
        f"{JOBS}/runs/list?job_id={{}}",
        f"{JOBS}/runs/list?page_token=n{{}}",
        f"{JOBS}/runs/list?start_time_from={{}}",
        f"{JOBS}/runs/list?offset={{}}",
        f"{SQL}/none/result/chunks/{{}}",
    ],
)
def test_a_number_of_more_than_64_bits_names_nothing(api: TestClient, path: str, number: str) -> None:
    assert api.get(path.format(number)).status_code in (400, 404)


@pytest.mark.parametrize(
    "body",
    [run(timeout_seconds=int(HUGE)), {"job_id": int(HUGE)}, {"run_id": int(HUGE)}],
    ids=["timeout", "job", "run"],
)
@pytest.mark.parametrize("verb", ["/runs/submit", "/delete", "/run-now", "/runs/cancel", "/runs/cancel-all"])
def test_a_body_with_such_a_number_is_refused(api: TestClient, verb: str, body: dict[str, Any]) -> None:
    assert api.post(f"{JOBS}{verb}", json=body).status_code == 400


@pytest.mark.parametrize(
    "path", ["/" + "a" * 5000, "dbfs:/" + "a" * 5000, "/Workspace/fitness/\0", "dbfs:/\0", "/\0", "file:/\0"]
)
def test_a_path_that_cannot_be_is_not_there(api: TestClient, path: str) -> None:
    assert api.get("/api/2.0/workspace/get-status", params={"path": path}).status_code == 404


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "SKIPPED"), ({"queue": {"enabled": True}}, "QUEUED"), ({"continuous": {}}, "QUEUED")],
    ids=["alone", "queue", "continuous"],
)
def test_a_run_that_is_being_cancelled_still_counts(api: TestClient, settings: dict[str, Any], expected: str) -> None:
    job = api.post(f"{JOBS}/create", json=run(name="j", **settings)).json()
    first = api.post(f"{JOBS}/run-now", json=job).json()
    api.post(f"{JOBS}/runs/cancel", json=first)
    second = api.post(f"{JOBS}/run-now", json=job).json()
    assert api.get(f"{JOBS}/runs/get", params=second).json()["state"]["life_cycle_state"] == expected


def test_a_run_that_was_skipped_or_waits_for_its_job_says_so(api: TestClient) -> None:
    job = api.post(f"{JOBS}/create", json=run(name="j")).json()
    bodies = [job, job, {**job, "queue": {"enabled": True}}]
    made = [api.post(f"{JOBS}/run-now", json=body).json() | {"include_history": True} for body in bodies]
    _, skipped, queued = [api.get(f"{JOBS}/runs/get", params=one).json() for one in made]
    [original] = skipped["repair_history"]
    assert (original["type"], original["state"]) == ("ORIGINAL", skipped["state"])
    assert queued["status"]["queue_details"]["code"] == "MAX_CONCURRENT_RUNS_REACHED"


@pytest.mark.parametrize("verb", ["runs/submit", "run-now"])
def test_an_empty_idempotency_token_is_none(api: TestClient, verb: str) -> None:
    job = api.post(f"{JOBS}/create", json=run(name="j", max_concurrent_runs=2)).json()
    body = run(idempotency_token="", **job)
    answers = [api.post(f"{JOBS}/{verb}", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() != answers[1].json()


def test_of_two_updates_at_once_none_is_lost(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    job = api.post(f"{JOBS}/create", json=run(name="j")).json()
    original = jobs_api.updated
    other = threading.Thread(
        target=api.post, args=(f"{JOBS}/update",), kwargs={"json": {**job, "new_settings": {"name": "k"}}}
    )

    def updated(settings: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
        if "tags" in change:
            other.start()
            other.join(1)  # as far as it comes
        return original(settings, change)

    monkeypatch.setattr(jobs_api, "updated", updated)
    api.post(f"{JOBS}/update", json={**job, "new_settings": {"tags": {"a": "b"}}})
    other.join()
    settings = api.get(f"{JOBS}/get", params=job).json()["settings"]
    assert (settings["name"], settings["tags"]) == ("k", {"a": "b"})


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with its length"])
@pytest.mark.parametrize(("path", "limit"), [("/login", 16 * 1024), (f"{JOBS}/create", 20 * 1024 * 1024)])
def test_a_body_is_refused_when_it_is_too_long_whether_or_not_it_says_so(
    api: TestClient, path: str, limit: int, chunked: bool
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded" if path == "/login" else "application/json"}
    for size, allowed in ((limit, True), (limit + 1, False)):
        body = b"a=" + b"b" * (size - 2)
        answer = api.post(path, content=iter([body]) if chunked else body, headers=headers)
        assert (answer.status_code != 413) == allowed
    assert answer.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"


def inside(api: TestClient) -> httpx.AsyncClient:
    """A client in the application's own loop, for many requests at once."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://test", headers=api.headers)


def test_statements_that_are_waited_for_keep_no_other_request_waiting(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(sql_api.Statements, "_run", lambda self, statement: go_on.wait() and statement.finish("FAILED"))
    statement = {"statement": "SELECT 1", "warehouse_id": "local", "wait_timeout": "30s"}

    async def many() -> None:
        async with inside(api) as client:
            waiting = [asyncio.create_task(client.post(SQL, json=statement)) for _ in range(50)]
            await asyncio.sleep(1)  # all of them have come in
            assert (await client.get(f"{JOBS}/list")).status_code == 200
            assert not any(one.done() for one in waiting)
            go_on.set()
            assert {(await one).json()["status"]["state"] for one in waiting} == {"FAILED"}

    asyncio.run(many())


def test_health_is_told_when_all_threads_are_taken(api: TestClient) -> None:
    async def ask() -> int:
        threads = anyio.to_thread.current_default_thread_limiter()
        for number in range(int(threads.total_tokens)):
            await threads.acquire_on_behalf_of(number)
        async with inside(api) as client, asyncio.timeout(60):
            return (await client.get("/healthz")).status_code

    assert asyncio.run(ask()) == 503  # as nothing runs here
