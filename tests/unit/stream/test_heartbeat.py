"""The documents between stream and supervisor: written by one side, read by the other, whatever state they are in."""

from __future__ import annotations

import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.stream import heartbeats
from spark_jobs.files import plain_path
from spark_jobs.streaming.heartbeat import Epoch, Heart, stop_requested
from spark_jobs.streaming.limits import RefusalLimit

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def heart(path: Path, clock: Clock, epoch: int = 1) -> Heart:
    return Heart(path, "bpm", "v1", 1, "17", epoch, clock)


def offsets(*numbers: int) -> dict[str, dict[str, int]]:
    return {"bpm": {str(partition): number for partition, number in enumerate(numbers)}}


def test_the_supervisor_reads_what_the_stream_wrote(tmp_path: Path) -> None:
    path, clock = tmp_path / "bpm.json", Clock()
    heart(path, clock).beat("running", end_offsets=offsets(10, 20), latest_offsets=offsets(10, 25))
    beat, problem = heartbeats.read(path)
    assert problem == ""
    assert beat is not None
    assert (beat.version, beat.run_id, beat.epoch, beat.state) == ("v1", "17", 1, "running")
    assert (beat.position, beat.latest, beat.written_at) == (30, 35, NOW)
    assert json.loads(path.read_text())["lag"] == 5


def test_the_window_survives_a_restart_and_its_samples_keep_their_distance(tmp_path: Path) -> None:
    path, clock = tmp_path / "bpm.json", Clock()
    first = heart(path, clock)
    first.looked(clock(), None, 3)  # at a topic of which nothing has been read
    for second in range(12):
        first.looked(clock(), second, second + 1)
        clock.tick(1)
    first.beat("running")
    second = heart(path, clock, epoch=2)
    second.looked(clock(), 99, None)
    second.beat("running")
    beat, _ = heartbeats.read(path)
    assert beat is not None
    told = [(sample.epoch, sample.position, sample.latest) for sample in beat.window]
    assert told == [(1, 0, 1), (1, 5, 6), (1, 10, 11), (2, 99, None)]
    assert [(sample.at - NOW).total_seconds() for sample in beat.window] == [0, 5, 10, 12]


def test_a_beat_says_when_the_query_last_ended_a_batch(tmp_path: Path) -> None:
    path, clock = tmp_path / "bpm.json", Clock()
    first = heart(path, clock)
    said = []
    for _ in range(3):
        first.beat("running")
        beat, _ = heartbeats.read(path)
        assert beat is not None
        said.append((beat.written_at, beat.progressed_at))
        clock.tick(10)
        if len(said) == 2:
            first.progressed()
    begun, later, last = (NOW + timedelta(seconds=seconds) for seconds in (0, 10, 20))
    assert said == [(begun, begun), (later, begun), (last, last)]


def test_epochs_rise_also_when_their_folder_is_lost(tmp_path: Path) -> None:
    path, clock = tmp_path / "bpm.json", Clock()
    for _ in range(6):
        last = Epoch.claim(path, "17")
    heart(path, clock, last.number).beat("running")
    shutil.rmtree(path.with_suffix(".epochs"))
    anew = Epoch.claim(path, "18")
    assert (anew.number, anew.fenced, last.fenced) == (7, False, True)

    shutil.rmtree(path.with_suffix(".epochs"))
    path.unlink()
    path.with_suffix(".stop").write_text("7")
    anew = Epoch.claim(path, "19")
    assert anew.number == 8 and not stop_requested(path, anew.number)


def test_a_start_after_a_run_that_did_not_end_well_counts_as_a_crash(tmp_path: Path) -> None:
    path, clock = tmp_path / "bpm.json", Clock()
    counted = []
    for epoch, last_word in enumerate(("stopped", "running", "failed", "stopped", "starting"), start=1):
        heart(path, clock, epoch).beat(last_word)
        beat, _ = heartbeats.read(path)
        assert beat is not None
        counted.append(len(beat.crashes))
        clock.tick(10)
    assert counted == [0, 0, 1, 2, 2]
    assert beat.crashes == (NOW + timedelta(seconds=20), NOW + timedelta(seconds=30))


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"format": 1}', '{"format": 9}', "\x00\x01"])
def test_a_damaged_heartbeat_is_reported_by_the_reader_and_mended_by_the_writer(tmp_path: Path, damage: str) -> None:
    path, clock = tmp_path / "bpm.json", Clock()
    path.write_text(damage)
    beat, problem = heartbeats.read(path)
    assert beat is None
    assert problem.startswith("The heartbeat cannot be read")
    heart(path, clock).beat("running", end_offsets=offsets(1), latest_offsets=offsets(1))
    assert heartbeats.read(path)[1] == ""


def test_a_run_that_has_not_read_yet_stands_where_the_one_before_it_stood(tmp_path: Path) -> None:
    path, clock = tmp_path / "bpm.json", Clock()
    first = heart(path, clock)
    first.looked(clock(), 40, 40)
    first.beat("running")
    heart(path, clock, epoch=2).beat("starting")
    beat, _ = heartbeats.read(path)
    assert beat is not None
    assert beat.position == 40


def test_of_many_that_start_at_once_all_but_the_newest_are_fenced(tmp_path: Path) -> None:
    claimed: list[Epoch] = []
    threads = [
        threading.Thread(target=lambda n=n: claimed.append(Epoch.claim(tmp_path / "bpm.json", f"run-{n}")))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(epoch.number for epoch in claimed) == list(range(1, 13))
    assert [epoch.number for epoch in claimed if not epoch.fenced] == [12]


def test_old_claims_are_cleared_and_the_count_goes_on(tmp_path: Path) -> None:
    for number in range(1, 41):
        assert Epoch.claim(tmp_path / "bpm.json", "run").number == number
    assert len(list((tmp_path / "bpm.epochs").iterdir())) < 30


def test_a_stop_is_for_the_epochs_up_to_it_and_not_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "bpm.json"
    assert not stop_requested(path, 1)
    heartbeats.request_stop(path, 3)
    assert [stop_requested(path, epoch) for epoch in (2, 3, 4)] == [True, True, False]


def test_a_path_that_python_cannot_open_is_refused() -> None:
    assert plain_path("file:///a/b%20c") == Path("/a/b c")
    assert plain_path("/Volumes/x/y") == Path("/Volumes/x/y")
    with pytest.raises(ValueError, match="abfss"):
        plain_path("abfss://lake@account/x")


def test_a_share_of_refused_records_in_the_window_pauses_once_there_are_enough() -> None:
    limit = RefusalLimit(share=0.5, window=1000, minimum=100, streak=10_000)
    assert limit.exceeded_by(90, 90) is None
    assert limit.exceeded_by(900, 0) is None
    assert limit.exceeded_by(500, 450) is None
    assert "of the last" in (limit.exceeded_by(500, 500) or "")


def test_a_streak_of_refused_records_pauses_and_one_accepted_record_ends_it() -> None:
    limit = RefusalLimit(share=1.0, window=10, minimum=10, streak=100)
    assert limit.exceeded_by(60, 60) is None
    assert limit.exceeded_by(40, 39) is None
    assert limit.exceeded_by(60, 60) is None
    assert "in a row" in (limit.exceeded_by(40, 40) or "")
