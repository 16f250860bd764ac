"""The demo on a machine that is too busy to answer in time."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from local import demo
from local.home import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(demo.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(Home, "secrets", {"airflow_password": "x", "workspace_token": "x"})
    return Home(tmp_path, 20000)


def answering(monkeypatch: pytest.MonkeyPatch, handler: httpx.MockTransport) -> None:
    client = httpx.Client
    monkeypatch.setattr(demo.httpx, "Client", lambda **given: client(**given, transport=handler))


def test_a_run_that_was_heard_but_not_answered_is_one_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def airflow(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "x"})
        asked.append(json.loads(request.content)["dag_run_id"])
        if len(asked) == 1:
            return httpx.Response(404)
        if len(asked) == 2:
            raise httpx.ReadTimeout("busy", request=request)
        return httpx.Response(409)

    answering(monkeypatch, httpx.MockTransport(airflow))
    demo._trigger(home, "bronze")
    assert len(asked) == 3
    assert len(set(asked)) == 1


def test_a_refusal_of_airflow_is_not_taken_for_a_start(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def airflow(request: httpx.Request) -> httpx.Response:
        found = request.url.path == "/auth/token"
        return httpx.Response(201, json={"access_token": "x"}) if found else httpx.Response(403)

    answering(monkeypatch, httpx.MockTransport(airflow))
    with pytest.raises(httpx.HTTPStatusError):
        demo._trigger(home, "bronze")


def test_a_count_that_is_not_answered_in_time_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def workspace(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("busy", request=request)

    with httpx.Client(base_url="http://127.0.0.1", transport=httpx.MockTransport(workspace)) as client:
        assert demo._count(client, "SELECT 1") == 0
