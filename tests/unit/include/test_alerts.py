"""Alerts say what is in trouble and reach their targets, or fail visibly."""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from include import alerts
from include.alerts import Alert, about_deadline, about_task, send
from include.settings import FileTarget, WebhookTarget

ALERT = Alert("ticket", "gold.users failed", "no such member", "task/gold/users", None, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def targets(monkeypatch):
    """A function that sets where alerts go."""

    def set_targets(*to):
        monkeypatch.setattr(alerts, "settings", lambda: SimpleNamespace(alerts=to))

    return set_targets


@pytest.fixture
def webhook(monkeypatch):
    """A receiver; `.status` is what it answers, `.requests` what it was sent."""
    requests = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, self.headers.get("Authorization"), body))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.status, server.requests = 200, requests
    Thread(target=server.serve_forever, daemon=True).start()
    connection = SimpleNamespace(
        conn_id="c", host=f"http://127.0.0.1:{server.server_port}/v2/enqueue", password="s3cret"
    )

    async def async_get(connection_id):
        return connection

    monkeypatch.setattr(alerts.Connection, "async_get", async_get)
    yield server
    server.shutdown()


def test_a_file_target_gets_one_line_an_alert(targets, tmp_path: Path):
    file = tmp_path / "logs" / "alerts.jsonl"
    targets(FileTarget(kind="file", path=file))
    asyncio.run(send(ALERT))
    asyncio.run(send(ALERT))
    assert [json.loads(line)["title"] for line in file.read_text().splitlines()] == ["gold.users failed"] * 2


def test_a_webhook_gets_the_alert_with_its_token(targets, webhook):
    targets(WebhookTarget(kind="webhook", connection_id="c"))
    asyncio.run(send(ALERT))
    [(path, authorization, body)] = webhook.requests
    assert (path, authorization) == ("/v2/enqueue", "Bearer s3cret")
    assert (body["severity"], body["dedup_key"]) == ("ticket", "task/gold/users")


def test_a_webhook_gets_only_the_severities_it_wants(targets, webhook):
    targets(WebhookTarget(kind="webhook", connection_id="c", severities=("page",)))
    asyncio.run(send(ALERT))
    assert webhook.requests == []


def test_a_target_that_refuses_is_an_error_and_the_others_are_still_told(targets, webhook, tmp_path: Path):
    webhook.status = 500
    targets(WebhookTarget(kind="webhook", connection_id="c"), FileTarget(kind="file", path=tmp_path / "alerts.jsonl"))
    with pytest.raises(ExceptionGroup, match="did not reach every target"):
        asyncio.run(send(ALERT))
    assert (tmp_path / "alerts.jsonl").exists()


def test_a_missed_deadline_pages_with_the_run_that_is_late():
    alert = about_deadline(
        {
            "dag_run": {"dag_id": "gold", "dag_run_id": "asset_triggered__1", "state": "running"},
            "deadline": {"id": "1", "deadline_time": "2026-01-01 12:10:00+00:00"},
        }
    )
    assert (alert.severity, alert.dedup_key) == ("page", "deadline/gold")
    assert "asset_triggered__1 is running" in alert.text
    assert alert.link.endswith("/dags/gold/runs/asset_triggered__1")


def test_a_failed_task_makes_a_ticket_with_the_first_line_of_its_error():
    ti = SimpleNamespace(dag_id="gold", task_id="users", try_number=3, log_url="http://airflow/log")
    alert = about_task({"ti": ti, "exception": ValueError("no such member\nSee http://...")})
    assert (alert.severity, alert.text, alert.link) == ("ticket", "no such member", "http://airflow/log")
    assert alert.title == "gold.users failed after 3 tries"
