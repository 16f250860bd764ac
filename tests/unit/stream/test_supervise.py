"""One look and its deed against a platform made of dictionaries."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.settings import check_offline
from include.stream import supervise
from include.stream.act import Memory
from include.stream.job import checkpoint_reads, job_settings, version_of
from include.stream.judge import State, Verdict
from include.stream.platform import StreamJob, contains
from include.stream.supervise import Supervisor

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTINGS = check_offline("local")
NAME = job_settings(SETTINGS)["name"]


@dataclass
class Platform:
    """Jobs and runs as a workspace tells them; a stream of this platform ends when its stop is asked for."""

    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    heeds: Path | None = None

    def __call__(self, method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        verb = path.removeprefix("2.2/jobs/")
        self.said.append(verb)
        return getattr(self, verb.replace("/", "_").replace("-", "_"))(document)

    def list(self, query: dict[str, Any]) -> dict[str, Any]:
        return {"jobs": [{"job_id": key, "settings": {"name": job["name"]}} for key, job in self.jobs.items()]}

    def create(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.jobs[len(self.jobs) + 1] = json.loads(json.dumps(settings))
        return {"job_id": len(self.jobs)}

    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        return {"job_id": query["job_id"], "settings": self.jobs[query["job_id"]]}

    def reset(self, document: dict[str, Any]) -> dict[str, Any]:
        self.jobs[document["job_id"]] = document["new_settings"]
        return {}

    def delete(self, document: dict[str, Any]) -> dict[str, Any]:
        del self.jobs[document["job_id"]]
        return {}

    def runs_list(self, query: dict[str, Any]) -> dict[str, Any]:
        if self.heeds and self.heeds.exists():
            self.heeds = None  # what starts later has a later epoch
            self.end()
        wanted = "active_only" in query
        runs = [run for run in self.runs if (run["state"]["life_cycle_state"] == "RUNNING") is wanted]
        return {"runs": runs[-1:]} if not wanted else {"runs": runs}

    def run_now(self, document: dict[str, Any]) -> dict[str, Any]:
        if document["idempotency_token"] not in self.tokens:
            run_id = len(self.runs) + 1
            self.runs.append(
                {"run_id": run_id, "start_time": NOW.timestamp() * 1000, "state": {"life_cycle_state": "RUNNING"}}
            )
            self.tokens[document["idempotency_token"]] = run_id
        return {"run_id": self.tokens[document["idempotency_token"]]}

    def runs_cancel(self, document: dict[str, Any]) -> dict[str, Any]:
        self.end("CANCELED", document["run_id"])
        return {}

    def end(self, result: str = "SUCCESS", run_id: int | None = None) -> None:
        """All active runs, or one."""
        for run in self.runs:
            if (run_id is not None and run["run_id"] != run_id) or run["state"]["life_cycle_state"] == "TERMINATED":
                continue
            run["state"] = {"life_cycle_state": "TERMINATED", "result_state": result}

    @property
    def active(self) -> int:
        return sum(run["state"]["life_cycle_state"] == "RUNNING" for run in self.runs)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def supervisor(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(supervise, "end_position", lambda kafka: 100)
    monkeypatch.setattr(supervise, "DRAIN_SECONDS", 0)
    return Supervisor(SETTINGS, platform, tmp_path / "bpm.json", {}, clock=lambda: NOW, sleep=lambda seconds: None)


def beat(stream: Supervisor, run_id: int, written_at: datetime = NOW, version: str = "", **changes: Any) -> None:
    """The heartbeat of a healthy stream, or of one that differs by `changes`."""
    document = {
        "format": 1,
        "version": version or version_of(stream.definition),
        "checkpoint_version": min(checkpoint_reads()),
        "run_id": str(run_id),
        "epoch": run_id,
        "state": "running",
        "reason": "",
        "written_at": written_at.isoformat(),
        "position": 100,
        "latest": 100,
        "batch": None,
        "window": [],
    }
    Path(str(stream.heartbeat)).write_text(json.dumps(document | changes))


def test_a_stream_that_never_was_is_created_and_started(supervisor: Supervisor, platform: Platform) -> None:
    verdict, _ = supervisor.once()
    assert verdict.state is State.STOPPED
    assert platform.active == 1
    assert contains(platform.jobs[1], supervisor.definition)


def test_a_healthy_stream_is_left_alone(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    beat(supervisor, run_id=1)
    platform.said.clear()
    verdict, _ = supervisor.once()
    assert verdict.state is State.HEALTHY
    assert set(platform.said) == {"list", "runs/list"}


def test_a_stream_that_replaces_its_damaged_heartbeat_is_left_alone(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    platform.runs[0]["start_time"] -= 3_600_000
    Path(str(supervisor.heartbeat)).write_bytes(b"\0\0\0")
    supervisor.sleep = lambda seconds: beat(supervisor, run_id=1)
    verdict, _ = supervisor.once()
    assert verdict.state is State.HEALTHY
    assert len(platform.runs) == 1


def test_a_stream_that_replaces_its_deleted_heartbeat_is_left_alone(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    supervisor.clock = lambda: NOW + timedelta(hours=1)
    supervisor.sleep = lambda seconds: beat(supervisor, run_id=1, written_at=supervisor.clock())
    verdict, _ = supervisor.once()
    assert (verdict.state, len(platform.runs)) == (State.HEALTHY, 1)


def test_a_stream_whose_heartbeat_stays_damaged_is_restarted(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    platform.runs[0]["start_time"] -= 3_600_000
    Path(str(supervisor.heartbeat)).write_bytes(b"\0\0\0")
    verdict, _ = supervisor.once()
    assert verdict.state is State.STALLED
    assert (platform.active, len(platform.runs)) == (1, 2)


def test_two_supervisors_that_saw_the_same_start_one_run(supervisor: Supervisor, platform: Platform) -> None:
    seen = supervisor.observe()
    supervisor.act(supervise.Cure.START, seen)
    supervisor.act(supervise.Cure.START, seen)
    assert len(platform.runs) == 1


def test_a_run_begins_when_its_cluster_is_there_and_one_that_is_being_ended_comes_last() -> None:
    started = int(NOW.timestamp() * 1000)

    def answer(method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        task = {"attempt_number": 2, "start_time": started, "setup_duration": 240_000}
        running = {"state": {"life_cycle_state": "RUNNING"}, "start_time": started - 10**9}
        return {
            "runs": [
                {"run_id": 7, "start_time": started, "state": {"life_cycle_state": "TERMINATING"}},
                {"run_id": 8, **running, "tasks": [{**running, "attempt_number": 1}, {**running, **task}]},
            ]
        }

    runs = StreamJob(answer, NAME).active_runs(1)
    assert [run.run_id for run in runs] == ["8", "7"]
    assert (runs[0].attempt, runs[0].started_at) == (2, NOW + timedelta(minutes=4))


def test_of_two_jobs_created_at_once_the_first_stays(platform: Platform) -> None:
    other = job_settings(SETTINGS)

    def create_after_somebody_else(settings: dict[str, Any]) -> dict[str, Any]:
        Platform.create(platform, other)
        return Platform.create(platform, settings)

    platform.create = create_after_somebody_else  # type: ignore[method-assign]
    assert StreamJob(platform, NAME).ensure(other) == (1, "unchanged")
    assert list(platform.jobs) == [1]


def test_settings_that_were_changed_by_hand_are_set_back(supervisor: Supervisor, platform: Platform) -> None:
    job = StreamJob(platform, NAME)
    job.ensure(supervisor.definition)
    platform.jobs[1]["max_concurrent_runs"] = 5
    assert job.ensure(supervisor.definition) == (1, "reset")
    assert job.ensure(supervisor.definition) == (1, "unchanged")


def test_defaults_that_the_platform_adds_are_no_change(supervisor: Supervisor, platform: Platform) -> None:
    job = StreamJob(platform, NAME)
    job.ensure(supervisor.definition)
    platform.jobs[1] |= {"email_notifications": {}, "max_concurrent_runs": "1"}
    assert job.ensure(supervisor.definition) == (1, "unchanged")


def test_an_old_version_is_drained_and_the_new_one_started(
    supervisor: Supervisor, platform: Platform, tmp_path: Path
) -> None:
    supervisor.once()
    beat(supervisor, run_id=1, version="old")
    platform.heeds = tmp_path / "bpm.stop"
    supervisor.act(supervise.Cure.ROLL, supervisor.observe())
    assert (tmp_path / "bpm.stop").read_text() == "1"
    assert "runs/cancel" not in platform.said
    assert len(platform.runs) == 2


@pytest.mark.parametrize("cure", [supervise.Cure.ROLL, supervise.Cure.RESTART])
def test_of_two_supervisors_the_later_leaves_alone_what_the_earlier_has_started(
    supervisor: Supervisor, platform: Platform, cure: supervise.Cure
) -> None:
    supervisor.once()
    beat(supervisor, run_id=1, version="old")
    seen = supervisor.observe()
    for _ in range(2):
        supervisor.act(cure, seen)
    assert (len(platform.runs), platform.active) == (2, 1)
    assert platform.runs[1]["state"]["life_cycle_state"] == "RUNNING"


def test_a_start_of_which_nothing_came_is_an_error(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    platform.end("CANCELED")
    token = supervisor._token(1, supervisor.observe())
    platform.tokens[token[:64]] = 1
    with pytest.raises(supervise.NothingRuns, match="Run 1 was asked for"):
        supervisor.once()


def test_a_run_that_was_deleted_does_not_keep_the_stream_down(
    supervisor: Supervisor, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.once()
    platform.end()
    spent = supervisor._token(1, supervisor.observe())[:64]
    run_now = platform.run_now

    def refuses(document: dict[str, Any]) -> dict[str, Any]:
        if document["idempotency_token"] == spent:
            raise ConnectionError("The run of that token was deleted.")
        return run_now(document)

    monkeypatch.setattr(platform, "run_now", refuses)
    supervisor.once()
    assert (len(platform.runs), platform.active) == (2, 1)


def test_who_cannot_page_leaves_the_page_to_who_can(supervisor: Supervisor) -> None:
    supervisor.once()
    beat(supervisor, run_id=1, state="paused", reason="60% refused")
    assert supervisor.once()[1].page
    told: list[str] = []
    supervisor.page = lambda verdict, text: told.append(text)
    supervisor.once()
    supervisor.once()
    assert told == ["The stream paused itself: 60% refused"]


def test_an_incident_ends_after_ten_minutes_of_health_and_the_next_one_pages(supervisor: Supervisor) -> None:
    told: list[str] = []
    supervisor.page = lambda verdict, text: told.append(text)
    supervisor.once()
    now = NOW
    supervisor.clock = lambda: now

    def told_after(minutes: float, **changes: Any) -> int:
        nonlocal now
        now += timedelta(minutes=minutes)
        beat(supervisor, 1, now, **changes)
        supervisor.once()
        return len(told)

    assert told_after(1, state="paused") == 1
    assert [told_after(1), told_after(9), told_after(1, state="paused")] == [1, 1, 1]
    assert [told_after(1), told_after(10), told_after(1, state="paused")] == [1, 1, 2]


def test_what_a_look_tells_of_the_past_is_remembered(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor.once()
    beat(supervisor, run_id=1)
    monkeypatch.setattr(supervise, "end_position", lambda kafka: None)
    supervisor.once()
    monkeypatch.setattr(supervise, "end_position", lambda kafka: 100)
    supervisor.clock = lambda: NOW + timedelta(seconds=5)
    seen = supervisor.observe()
    assert (seen.unanswered_at, seen.heard_attempt) == (NOW, 0)
    supervisor.once()
    assert Memory.from_json(supervisor.recall().to_json()) == supervisor.recall()
    assert (supervisor.recall().unanswered_at, supervisor.recall().heard) == (NOW, ("1", 0))


def test_a_page_that_reaches_nobody_is_sent_again_and_keeps_nothing_from_being_done(
    supervisor: Supervisor, platform: Platform
) -> None:
    told: list[str] = []

    def page(verdict: Verdict, text: str) -> None:
        if not told:
            told.append("refused")
            raise ConnectionError("the webhook does not answer")
        told.append(text)

    supervisor.page = page
    long_ago = NOW - timedelta(hours=1)
    supervisor.remember(Memory(starts=5 * (long_ago,)))
    with pytest.raises(ConnectionError):
        supervisor.once()
    assert (platform.active, supervisor.recall().paged) == (1, "")
    platform.end()
    supervisor.once()
    assert len(told) == 2 and "5 starts" in told[1]
    assert supervisor.recall().paged == "stopped"


def test_a_page_is_sent_also_when_the_deed_fails(supervisor: Supervisor, platform: Platform) -> None:
    told: list[str] = []
    supervisor.page = lambda verdict, text: told.append(text)
    supervisor.remember(Memory(starts=5 * (NOW - timedelta(hours=1),)))

    def refused(document: dict[str, Any]) -> dict[str, Any]:
        raise ConnectionError("the platform does not answer")

    platform.run_now = refused  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        supervisor.once()
    assert len(told) == 1
    assert supervisor.recall().paged == "stopped"


def test_a_stream_that_does_not_heed_its_stop_is_cancelled(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    beat(supervisor, run_id=1, version="old")
    supervisor.act(supervise.Cure.ROLL, supervisor.observe())
    assert "runs/cancel" in platform.said
    assert (len(platform.runs), platform.active) == (2, 1)


def test_a_silent_stream_is_looked_at_until_its_silence_is_certain_and_restarted(
    supervisor: Supervisor, platform: Platform
) -> None:
    supervisor.once()
    beat(supervisor, run_id=1)
    seconds = iter(range(15, 200, 3))
    supervisor.clock = lambda: NOW + timedelta(seconds=next(seconds))
    verdict, _ = supervisor.once()
    assert verdict.state is State.STALLED
    assert "runs/cancel" in platform.said
    assert (len(platform.runs), platform.active) == (2, 1)


def passing(supervisor: Supervisor) -> list[float]:
    """Let time pass as the supervisor sleeps; how long it slept each time."""
    slept: list[float] = []
    supervisor.sleep = slept.append
    supervisor.clock = lambda: NOW + timedelta(seconds=sum(slept))
    return slept


def test_a_batch_that_does_not_end_is_looked_at_until_that_is_certain_and_the_stream_restarted(
    supervisor: Supervisor, platform: Platform
) -> None:
    supervisor.once()
    slept = passing(supervisor)

    def beats_on(seconds: float) -> None:
        slept.append(seconds)
        beat(supervisor, 1, supervisor.clock(), position=90, batch={"number": 7}, progressed_at=begun.isoformat())

    begun = NOW - timedelta(seconds=20)
    supervisor.sleep = beats_on
    beats_on(0)
    verdict, _ = supervisor.once()
    assert verdict.state is State.STALLED
    assert "10 readings wait and none was read for 7" in verdict.reason
    assert sum(slept) < 75 - 20 + 3  # 20 s old when it was looked at first
    assert (platform.active, len(platform.runs)) == (1, 2)


@pytest.mark.parametrize("age", [20, 200])
def test_a_slow_batch_that_ends_is_left_alone(supervisor: Supervisor, platform: Platform, age: float) -> None:
    """Also one that all thought to hang, since Kafka was away: what it waits for has come back."""
    supervisor.once()
    slept = passing(supervisor)

    def ends(seconds: float) -> None:
        slept.append(seconds)
        progressed_at = NOW - timedelta(seconds=age) if len(slept) < 3 else supervisor.clock()
        said = {"position": 90, "batch": {"number": 7}, "progressed_at": progressed_at.isoformat()}
        beat(supervisor, 1, supervisor.clock(), **said)

    supervisor.sleep = ends
    ends(0)
    verdict, _ = supervisor.once()
    assert verdict.state is State.CATCHING_UP
    assert len(platform.runs) == 1


@pytest.mark.parametrize("behind", [12, 40, 300])
def test_a_stream_whose_clock_is_behind_and_that_beats_is_left_alone(
    supervisor: Supervisor, platform: Platform, behind: float
) -> None:
    supervisor.once()
    platform.runs[0]["start_time"] -= 3_600_000
    slept = passing(supervisor)

    def beats(seconds: float) -> None:
        slept.append(seconds)
        at = (supervisor.clock() - timedelta(seconds=behind)).isoformat()
        beat(supervisor, 1, written_at=datetime.fromisoformat(at), progressed_at=at)

    supervisor.sleep = beats
    beats(0)
    verdict, _ = supervisor.once()
    assert verdict.state is State.HEALTHY
    assert sum(slept) < 10
    assert len(platform.runs) == 1


def test_a_checkpoint_that_cannot_be_taken_over_is_forgotten_with_its_heartbeat(
    supervisor: Supervisor, platform: Platform, tmp_path: Path
) -> None:
    supervisor.once()
    beat(supervisor, run_id=1, checkpoint_version=99)
    supervisor.stop()
    platform.end()
    supervisor.start()
    assert (platform.active, supervisor.once()[0].state) == (0, State.FAILING)
    (tmp_path / "bpm.json").rename(tmp_path / "bpm.before.json")
    supervisor.start()
    assert platform.active == 1


def test_a_stop_by_hand_lasts_until_a_start_by_hand(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    assert supervisor.stop()
    supervisor.once()
    assert platform.active == 0
    supervisor.start()
    assert platform.active == 1


@pytest.mark.parametrize("moment", ["runs/list", "run-now"])
def test_a_supervision_that_was_under_way_does_not_undo_a_stop(
    supervisor: Supervisor, platform: Platform, moment: str
) -> None:
    def stopped_meanwhile(method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        answer = platform(method, path, document)
        if path.endswith(moment) and not other.rests():
            other._write("stopped", NOW.isoformat())
        return answer

    other = replace(supervisor)
    supervisor.job = StreamJob(stopped_meanwhile, NAME)
    supervisor.once()
    assert platform.active == 0
    supervisor.once()
    assert platform.active == 0


def test_a_run_that_goes_on_though_a_stop_is_wanted_is_ended(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    beat(supervisor, run_id=1)
    supervisor._write("stopped", NOW.isoformat())
    supervisor.once()
    assert (platform.active, len(platform.runs)) == (0, 1)


def test_a_pause_lasts_until_it_is_over(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    assert supervisor.pause(600)
    supervisor.once()
    assert platform.active == 0
    supervisor.resume()
    assert platform.active == 1


@pytest.mark.parametrize(("state", "rests"), [("stopped", True), ("running", False), ("failed", False)])
def test_a_batch_that_was_broken_off_is_no_pause(
    supervisor: Supervisor, platform: Platform, state: str, rests: bool
) -> None:
    supervisor.once()
    beat(supervisor, run_id=1, state=state)
    platform.end("CANCELED")
    assert supervisor.pause(600) is rests


def test_a_heartbeat_that_cannot_be_read_is_no_pause(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "bpm.json").write_text("{")
    assert not supervisor.pause(600)


def test_a_pause_that_nobody_ends_ends_by_itself(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    supervisor.pause(600)
    supervisor.clock = lambda: NOW + timedelta(seconds=601)
    supervisor.once()
    assert platform.active == 1


def test_who_dies_before_a_pause_has_begun_keeps_the_stream_for_some_minutes_only(
    supervisor: Supervisor, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.once()

    def dies() -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(supervisor, "_end", dies)
    with pytest.raises(KeyboardInterrupt):
        supervisor.pause(7500)
    platform.end()
    supervisor.once()
    assert platform.active == 0
    supervisor.clock = lambda: NOW + timedelta(seconds=supervise.ENDING_SECONDS + 1)
    supervisor.once()
    assert platform.active == 1


def test_a_stream_that_ends_when_others_may_start_it_again_is_no_pause(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter((NOW, NOW + timedelta(seconds=supervise.ENDING_SECONDS + 1)))
    supervisor.clock = lambda: next(moments)
    monkeypatch.setattr(supervisor, "_end", lambda: True)
    assert not supervisor.pause(7500)


def test_a_stream_that_was_stopped_before_a_pause_stays_so(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    supervisor.stop()
    supervisor.pause(600)
    supervisor.resume()
    assert platform.active == 0


def test_a_person_who_starts_the_stream_ends_the_pause(supervisor: Supervisor, platform: Platform) -> None:
    supervisor.once()
    supervisor.pause(600)
    supervisor.start()
    assert platform.active == 1


def test_a_supervision_that_was_under_way_neither_forgets_nor_breaks_a_pause(
    supervisor: Supervisor, platform: Platform
) -> None:
    seen = supervisor.observe()
    supervisor.pause(600)
    supervisor.act(supervise.Cure.START, seen)
    assert platform.active == 0
    supervisor.once()
    assert platform.active == 0


def test_a_damaged_memory_is_forgotten(supervisor: Supervisor, platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "bpm.supervision").write_text('{"starts": ')
    supervisor.once()
    assert platform.active == 1


def test_the_version_follows_code_and_settings() -> None:
    version = version_of(job_settings(SETTINGS))
    slower = SETTINGS.model_copy(update={"stream": SETTINGS.stream.model_copy(update={"trigger_seconds": 30})})
    assert version_of(job_settings(SETTINGS)) == version
    assert version_of(job_settings(slower)) != version
