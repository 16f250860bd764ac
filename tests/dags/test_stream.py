"""The stream as a rebuild's tasks pause it, and what its jobs tell them."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from include.stream import airflow as stream
from include.stream.act import Memory
from tests.dags.running import tiny_jobs


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
        verdict = SimpleNamespace(state="stopped", reason="No run is active.")
        return verdict, SimpleNamespace(action="start", page="Starts did not help.")


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


def test_a_page_that_is_due_when_the_stream_goes_on_is_sent(monkeypatch):
    paged = []
    monkeypatch.setattr(stream, "supervisor", lambda: Stream(True))
    monkeypatch.setattr(stream, "page", lambda verdict, told: paged.append(told))
    assert stream.resume()["action"] == "start"
    assert paged == ["Starts did not help."]


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


@pytest.mark.parametrize("paged", ["", "failing"])
def test_a_red_run_of_an_incident_that_was_paged_does_not_page_again(monkeypatch, tmp_path, paged):
    sent = []

    async def send(context):
        sent.append(context)

    (tmp_path / "bpm.supervision").write_text(Memory(paged=paged).to_json())
    monkeypatch.setattr(stream, "heartbeat", lambda environment: tmp_path / "bpm.json")
    monkeypatch.setattr(stream.alerts, "deadline_missed", send)
    asyncio.run(stream.deadline_missed({}))
    assert len(sent) == (0 if paged else 1)
    (tmp_path / "bpm.supervision").unlink()
    assert not stream.incident_is_open()


def test_differences_are_those_that_this_rebuild_has_found(tmp_path):
    with tiny_jobs(tmp_path, {}):
        (tmp_path / "heartbeats").mkdir()
        for table, count in (("heart_rate", 2), ("bpm_trends", 3)):
            file = tmp_path / "heartbeats" / f"bpm.differences.{table}.json"
            file.write_text(json.dumps({"rebuild": "r1", "differences": count}))
        assert stream.differences("r1", ["heart_rate", "bpm_trends"]) == 5
        with pytest.raises(ValueError, match="is of rebuild r1"):
            stream.differences("r2", ["heart_rate"])
