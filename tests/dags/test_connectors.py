"""The DAG that looks after the connectors, run by Airflow against a Connect cluster whose connector fails on and on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from include import kafka_connect
from include.kafka import transactions
from tests.dags.airflow_home import REPO
from tests.dags.running import run_dag, states, store, tiny_jobs

CREDENTIALS = ("fitness", "secret")
CONFIGS = kafka_connect.desired(REPO / "include" / "connectors" / "postgresql")
TRACE = "org.Outer: no\nCaused by: org.RecordTooLarge: 1100000 bytes"


class Cluster:
    """Has the wanted connector, which runs again once it is restarted."""

    is_failed = False


class Api(BaseHTTPRequestHandler):
    def __init__(self, cluster: Cluster, *arguments: Any) -> None:
        self.cluster = cluster
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path.endswith("/status"):
            state = {"state": "FAILED", "trace": TRACE} if self.cluster.is_failed else {"state": "RUNNING"}
            self._answer({"name": "fitness_app", "connector": {"state": "RUNNING"}, "tasks": [{"id": 0, **state}]})
        else:
            self._answer({name: {"info": {"config": config}} for name, config in CONFIGS.items()})

    def do_POST(self) -> None:
        self.cluster.is_failed = False
        self._answer({})

    def _answer(self, document: dict[str, Any]) -> None:
        wanted = httpx.BasicAuth(*CREDENTIALS)._auth_header
        self.send_response(200 if self.headers["Authorization"] == wanted else 401)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Api, cluster))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    login, password = CREDENTIALS
    connection = {"conn_type": "http", "login": login, "password": password}
    monkeypatch.setenv("AIRFLOW_CONN_CONNECT_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("FITNESS_CONNECT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(kafka_connect, "STEADY_SECONDS", 0)
    yield cluster
    server.shutdown()


def test_a_connector_that_fails_again_and_again_makes_the_run_red_until_it_is_well(
    metadata, cluster, tmp_path, capfd, monkeypatch
):
    found = []
    monkeypatch.setattr(transactions, "hanging", lambda *_: [])
    with tiny_jobs(tmp_path, {}) as bag:
        store(bag)
        for is_broken in (False, True, True, True, True, False):
            cluster.is_failed = is_broken
            found.append(states(run_dag(bag, "connectors"))["apply"])
    assert found == ["success", "success", "success", "failed", "failed", "success"]
    assert "Failed in each of 3 runs in a row: connector fitness_app" in (log := "".join(capfd.readouterr()))
    assert "org.RecordTooLarge: 1100000 bytes" in log


def test_a_transaction_that_hangs_makes_the_run_red_and_the_connectors_are_looked_after(
    metadata, cluster, tmp_path, capfd, monkeypatch
):
    lost = transactions.Hanging("workout", 0, 891, datetime(2026, 11, 27, 2, 16, 20, tzinfo=UTC))
    monkeypatch.setattr(transactions, "hanging", lambda *_: [lost])
    with tiny_jobs(tmp_path, {}) as bag:
        store(bag)
        ended = states(run_dag(bag, "connectors"))
    assert ended == {"apply": "success", "look_for_hanging_transactions": "failed"}
    assert "workout-0 from offset 891, open since 2026-11-27 02:16:20 UTC" in "".join(capfd.readouterr())
