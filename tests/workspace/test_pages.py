"""Pages for people: who gets in, what they see, what they may press."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest

from tests.workspace.server import Server, until


@pytest.fixture
def browser(server: Server) -> Iterator[httpx.Client]:
    """Someone who has logged in."""
    with httpx.Client(base_url=server.home.workspace_url, follow_redirects=True) as client:
        client.post("/login", data={"token": server.token, "next": "/runs"})
        yield client


@pytest.fixture
def stranger(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.home.workspace_url) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/runs", "/runs/1", "/jobs", "/dashboard", "/dashboard/bpm_trends"])
def test_a_stranger_is_sent_to_the_login(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/login?{urlencode({'next': path})}")


def test_a_token_in_any_address_signs_in_and_leaves_the_address(server: Server) -> None:
    with httpx.Client(base_url=server.home.workspace_url, follow_redirects=True) as client:
        answer = client.get(f"/runs?state=active&token={server.token}")
        assert (answer.status_code, str(answer.url)) == (200, f"{server.home.workspace_url}/runs?state=active")
    with httpx.Client(base_url=server.home.workspace_url, follow_redirects=True) as client:
        assert client.get("/runs?token=wrong").status_code == 403


def test_a_wrong_token_opens_nothing(stranger: httpx.Client) -> None:
    for answer in (stranger.post("/login", data={"token": "wrong"}), stranger.get("/login?token=wrong")):
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_a_link_with_the_token_sets_a_cookie_and_forgets_the_token(stranger: httpx.Client, server: Server) -> None:
    answer = stranger.get(f"/login?token={server.token}&next=/jobs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert server.token not in cookie


def test_a_forged_cookie_opens_nothing(stranger: httpx.Client, server: Server) -> None:
    stranger.cookies.set(f"fitness_workspace_{server.home.port('workspace')}", "abc." + "0" * 64)
    assert stranger.get("/runs").status_code == 303


def test_the_cookie_does_not_open_the_api(browser: httpx.Client) -> None:
    assert browser.get("/api/2.2/jobs/list").status_code == 401
    assert browser.post("/api/2.2/jobs/create", json={"name": "x"}).status_code == 401


def test_a_run_page_shows_tasks_parameters_error_and_log_but_no_html_of_theirs(
    server: Server, browser: httpx.Client
) -> None:
    run_id = server.submit(server.task("fail", "<img src=x onerror=alert(1)>"))
    server.ended(run_id)
    url = server.run(run_id).run_page_url or ""
    page = browser.get(url)
    assert page.status_code == 200
    assert "ValueError: no &lt;b&gt;luck&lt;/b&gt;" in page.text
    assert "&lt;img src=x" in page.text
    assert "<b>luck" not in page.text and "<img" not in page.text
    assert "Rerun failed tasks" in page.text
    assert (
        "script-src" in page.headers["content-security-policy"]
        or "default-src 'self'" in (page.headers["content-security-policy"])
    )


def test_runs_can_be_filtered_by_state_and_job(server: Server, browser: httpx.Client) -> None:
    good, bad = server.submit(server.task("say")), server.submit(server.task("fail"))
    server.ended(good)
    server.ended(bad)
    failed = browser.get("/runs", params={"state": "FAILED"}).text
    assert f"/runs/{bad}" in failed and f'/runs/{good}"' not in failed
    assert browser.get("/runs", params={"state": "<x>"}).status_code == 400
    assert "No runs of this kind" in browser.get("/runs", params={"job_id": "1"}).text


def test_a_run_is_cancelled_by_its_button_and_only_with_the_page_token(server: Server, browser: httpx.Client) -> None:
    run_id = server.submit(server.task("graceful"))
    until(lambda: "ready" in server.logs(run_id))
    assert browser.post(f"/runs/{run_id}/cancel", data={"form_token": "guess"}).status_code == 403
    assert server.state(run_id)[0] == "RUNNING"
    token = re.search(r'name="form_token" value="(\w+)"', browser.get(f"/runs/{run_id}").text)
    assert token
    assert browser.post(f"/runs/{run_id}/cancel", data={"form_token": token.group(1)}).status_code == 200
    assert server.end_state(run_id) == ("TERMINATED", "CANCELED")


def test_a_log_is_followed_from_an_offset(server: Server, browser: httpx.Client) -> None:
    run_id = server.submit(server.task("say", "hello"))
    server.ended(run_id)
    attempt = (server.run(run_id).tasks or [])[0].run_id
    whole = browser.get(f"/runs/{attempt}/log").json()
    assert whole["text"] == "hello\n" and whole["ended"]
    assert browser.get(f"/runs/{attempt}/log", params={"offset": 3}).json()["text"] == "lo\n"


def test_the_dashboard_says_honestly_that_there_is_nothing_yet(browser: httpx.Client) -> None:
    assert "Workout completion" in browser.get("/dashboard").text
    for name in ("bpm_trends", "workout_completion", "gym_activity"):
        answer = browser.get(f"/dashboard/{name}").json()
        assert answer["updated"] is None and "does not exist yet" in answer["html"]
    assert browser.get("/dashboard/none").status_code == 404


def test_what_a_program_sends_wrongly_is_answered_in_databricks_shape(server: Server) -> None:
    with httpx.Client(base_url=server.home.workspace_url, headers={"Authorization": f"Bearer {server.token}"}) as api:
        broken = api.post("/api/2.2/jobs/create", content=b"{nonsense")
        assert (broken.status_code, broken.json()["error_code"]) == (400, "MALFORMED_REQUEST")
        listed = api.post("/api/2.2/jobs/create", json=[1])
        assert listed.status_code == 400
        lost = api.get("/api/2.2/jobs/nothing")
        assert (lost.status_code, lost.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
        body = api.request("GET", "/api/2.1/jobs/runs/get", json={"run_id": "1"})
        assert (body.status_code, body.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        assert (
            api.get("/api/2.2/jobs/runs/list", params={"active_only": "true", "completed_only": "true"}).status_code
            == 400
        )
        assert api.get("/api/2.2/jobs/list", params={"page_token": "zzz"}).status_code == 400
