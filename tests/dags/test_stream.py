"""The stream as a rebuild's tasks pause it, and what its jobs tell them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import yaml

from include.settings import check_offline
from include.stream import airflow as stream
from include.stream import heartbeats
from include.stream.act import Memory
from tests.dags.airflow_home import REPO
from tests.dags.running import tiny_jobs, workspace


class Stream:
    """A supervisor whose stream ends, or does not, when it is paused."""

    def __init__(self, ends: bool | Exception) -> None:
        self.ends, self.said = ends, []

    def pause(self, seconds: float) -> bool:
        self.said.append(f"pause {seconds}")
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends

    def resume(self):
        self.said.append("resume")


@pytest.mark.parametrize(
    ("ends", "raised", "said"),
    [
        pytest.param(True, None, ["pause 60"], id="it ends"),
        pytest.param(False, stream.StillRuns, ["pause 60", "resume"], id="it does not"),
        pytest.param(ConnectionError(), ConnectionError, ["pause 60", "resume"], id="nobody answers"),
    ],
)
def test_a_pause_that_fails_does_not_keep_the_stream_from_running(monkeypatch, ends, raised, said):
    paused = Stream(ends)
    monkeypatch.setattr(stream, "supervisor", lambda: paused)
    if raised:
        with pytest.raises(raised):
            stream.pause(60)
    else:
        stream.pause(60)
    assert paused.said == said


def test_what_airflow_supervises_pages(tmp_path):
    with tiny_jobs(tmp_path, {}):
        assert stream.supervisor().page is stream.page


def test_a_page_leads_to_the_log_that_says_more(monkeypatch):
    sent = []

    async def send(alert):
        sent.append(alert)

    monkeypatch.setattr(stream.alerts, "send", send)
    monkeypatch.setattr(stream, "get_current_context", lambda: {"ti": SimpleNamespace(log_url="http://airflow/log")})
    stream.page(SimpleNamespace(state="failing"), "Starts did not help.")
    [alert] = sent
    assert (alert.severity, alert.title, alert.link) == ("page", "The BPM stream is failing", "http://airflow/log")
    assert alert.text == "Starts did not help. Runbook: docs/runbooks/bpm_stream.md"


DUE = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)
WANTED_AT = DUE - timedelta(minutes=5)


@pytest.mark.parametrize(
    ("memory", "known"),
    [
        pytest.param(Memory(), False, id="nothing is known"),
        pytest.param(Memory(paged="failing", looked_at=WANTED_AT), True, id="it has paged"),
        pytest.param(
            Memory(paged="failing", looked_at=WANTED_AT - timedelta(seconds=1)), False, id="it cannot look any more"
        ),
        pytest.param(Memory(taken_over_at=WANTED_AT + timedelta(seconds=1)), True, id="somebody dealt with it since"),
        pytest.param(Memory(taken_over_at=WANTED_AT - timedelta(seconds=1)), False, id="it is red again"),
    ],
)
def test_a_red_run_of_a_known_incident_does_not_page_again(monkeypatch, tmp_path, memory, known):
    sent = []
    context = {"deadline": {"deadline_time": str(DUE)}}

    async def send(context):
        sent.append(context)

    (tmp_path / "bpm.supervision").write_text(memory.to_json())
    monkeypatch.setattr(stream, "heartbeat", lambda environment: tmp_path / "bpm.json")
    monkeypatch.setattr(stream.alerts, "deadline_missed", send)
    asyncio.run(stream.deadline_missed(context))
    assert len(sent) == (0 if known else 1)
    (tmp_path / "bpm.supervision").unlink()
    assert not stream.is_known(context)


def test_a_deadline_pages_when_the_heartbeats_container_does_not_answer(monkeypatch):
    def refused(environment):
        raise RuntimeError("the secret of the service principal has expired")

    monkeypatch.setattr(stream, "heartbeat", refused)
    assert not stream.is_known({"deadline": {"deadline_time": str(DUE)}})


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_on_azure_airflow_reads_the_heartbeat_from_the_lake_as_its_example_of_a_connection_says(monkeypatch, name):
    [connection] = [
        given
        for given in yaml.safe_load((REPO / "airflow_settings.yaml").read_text())["airflow"]["connections"]
        if given["conn_id"] == "stream_files"
    ]
    given = {key.removeprefix("conn_"): value for key, value in connection.items() if value and key != "conn_id"}
    given |= {"conn_type": given.pop("type"), "login": "somebody", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_STREAM_FILES", json.dumps(given))
    beat = stream.heartbeat(check_offline(name))
    assert type(beat.fs).__name__ == "AzureBlobFileSystem"
    assert (beat.fs.account_url, beat.fs.client_id) == ("https://fitnessdatalake.blob.core.windows.net", "somebody")
    stop = heartbeats.beside(beat, "stop")
    assert (beat.path, stop.path) == tuple(f"fitness-{name}-ops/heartbeats/bpm.{kind}" for kind in ("json", "stop"))


def test_the_commands_go_by_airflows_connections_where_they_are_not_given_a_workspace(tmp_path):
    with workspace(tmp_path) as home:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FITNESS_WORKSPACE_")}
        environment |= {"FITNESS_HOME": str(home.path), "FITNESS_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
        command = [sys.executable, "-m", "include.stream", "status"]
        said = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=120)
    assert json.loads(said.stdout)["reason"] == "No run is active.", said.stderr


def test_differences_are_those_that_this_rebuild_has_found(tmp_path):
    with tiny_jobs(tmp_path, {}):
        (tmp_path / "heartbeats").mkdir()
        for table, count in (("heart_rate", 2), ("bpm_trends", 3)):
            file = tmp_path / "heartbeats" / f"bpm.differences.{table}.json"
            file.write_text(json.dumps({"rebuild": "r1", "differences": count}))
        assert stream.differences("r1", ["heart_rate", "bpm_trends"]) == 5
        with pytest.raises(ValueError, match="is of rebuild r1"):
            stream.differences("r2", ["heart_rate"])
