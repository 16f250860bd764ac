"""What a start makes of the checkpoint that it finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from spark_jobs.streaming import bpm
from spark_jobs.streaming.bpm import IncompatibleCheckpoint, TakenOver, take_over
from spark_jobs.streaming.heartbeat import Heart, furthest_position

OFFSETS = 'v1\n{"batchWatermarkMs":0}\n'


def made_by_spark(folder: Path) -> None:
    (folder / "offsets").mkdir(parents=True)
    (folder / "metadata").write_text('{"id":"e300"}')


def planned(folder: Path, batch: int, *ends: int) -> None:
    """As Spark notes a batch: `ends` by partition."""
    (folder / "offsets" / str(batch)).write_text(OFFSETS + json.dumps({"bpm": dict(enumerate(ends))}))
    (folder / "offsets" / f".{batch}.crc").write_bytes(b"crc")


def held(offset: int) -> Callable[[], int]:
    return lambda: offset


def test_of_what_a_new_checkpoint_reads_again_the_tables_tell_how_far_they_hold_it(tmp_path: Path) -> None:
    assert take_over(tmp_path, 0, held(41)) == TakenOver(41)
    made_by_spark(tmp_path)
    planned(tmp_path, 0, 3)
    assert take_over(tmp_path, 3, held(99)) == TakenOver(41)  # as it was when the checkpoint was new


def test_a_checkpoint_that_has_come_as_far_as_any_stream_keeps_its_name(tmp_path: Path) -> None:
    take_over(tmp_path, 0, held(-1))
    made_by_spark(tmp_path)
    assert take_over(tmp_path, 0, held(0)) == TakenOver(-1)
    for batch in (9, 10):
        planned(tmp_path, batch, 10 * batch, 7)
    assert take_over(tmp_path, 107, held(99)) == TakenOver(-1)


def test_an_older_copy_numbers_its_batches_under_a_name_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    folder, copy = tmp_path / "bpm", tmp_path / "copy"
    folder.mkdir()
    take_over(folder, 0, held(-1))
    made_by_spark(folder)
    planned(folder, 0, 10)
    shutil.copytree(folder, copy)
    planned(folder, 1, 20)
    again = take_over(copy, 20, held(20))
    assert again.held_to == 20 and again.transaction
    planned(copy, 1, 25)
    assert take_over(copy, 25, held(25)) == again
    assert take_over(copy, 26, held(26)).transaction not in ("", again.transaction)


def test_a_checkpoint_of_another_version_is_refused_as_it_is(tmp_path: Path) -> None:
    made_by_spark(tmp_path)
    note = tmp_path / "fitness.json"
    note.write_text(json.dumps({"version": 99, "held_to": -1}))
    with pytest.raises(IncompatibleCheckpoint, match="version 99"):
        take_over(tmp_path, 1, held(1))
    assert json.loads(note.read_text()) == {"version": 99, "held_to": -1}


def test_a_heartbeat_says_how_far_its_stream_and_those_before_came(tmp_path: Path) -> None:
    path = tmp_path / "bpm.json"
    assert furthest_position(path) == 0
    first = Heart(path, "bpm", "v", 1, "17", 1)
    first.beat("running", end_offsets={"bpm": {"0": 5, "1": 6}})
    assert furthest_position(path) == 11
    first.looked(bpm.now_utc(), 10, 12)
    first.beat("running", end_offsets={"bpm": {"0": 5, "1": 6}})
    Heart(path, "bpm", "v", 1, "18", 2).beat("starting")
    assert furthest_position(path) == 10
    path.write_text("{")
    assert furthest_position(path) == 0
