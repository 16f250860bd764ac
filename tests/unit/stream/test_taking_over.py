"""What a start makes of the checkpoint that it finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spark_jobs.streaming.batch import batch_of, note_of
from spark_jobs.streaming.bpm import IncompatibleCheckpoint, TakenOver, take_over

OWN = "bpm-e300"


def made_by_spark(folder: Path, *batches: int) -> None:
    """The checkpoint when these batches have been planned."""
    (folder / "offsets").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").write_text('{"id":"e300"}')
    for batch in batches:
        (folder / "offsets" / str(batch)).write_text('v1\n{}\n{"bpm":{"0":1}}')
        (folder / "offsets" / f".{batch}.crc").write_bytes(b"crc")


def held(offset: int, closes: str = "") -> Callable[[str], dict[int, int]]:
    """In partition 3, asked when a name is closed."""

    def answer(closed: str) -> dict[int, int]:
        assert closed == closes
        return {3: offset}

    return answer


def newest(**batches: int) -> Callable[[str], int | None]:
    """What bronze holds, by the checkpoint's identifier."""
    return lambda name: batches.get(name.removeprefix("bpm-"))


def test_of_what_a_new_checkpoint_reads_again_the_tables_tell_how_far_they_hold_it(tmp_path: Path) -> None:
    assert take_over(tmp_path, newest(), held(41)) == TakenOver({3: 41})
    made_by_spark(tmp_path, 0)
    as_when_it_was_new = TakenOver({3: 41}, OWN)
    assert take_over(tmp_path, newest(e300=0), held(99)) == as_when_it_was_new


@pytest.mark.parametrize("reached", [9, 10])
def test_a_checkpoint_that_knows_the_newest_batch_keeps_its_name(tmp_path: Path, reached: int) -> None:
    take_over(tmp_path, newest(), lambda closed: {})
    made_by_spark(tmp_path, 9, 10)
    assert take_over(tmp_path, newest(e300=reached), held(99)) == TakenOver({}, OWN)


@pytest.mark.parametrize(
    "reached", [pytest.param({"e300": 11}, id="older copy"), pytest.param({}, id="nobody can tell")]
)
def test_an_older_copy_numbers_its_batches_under_a_name_of_its_own_and_keeps_it(
    tmp_path: Path, reached: dict[str, int]
) -> None:
    take_over(tmp_path, newest(), lambda closed: {})
    made_by_spark(tmp_path, 9, 10)
    again = take_over(tmp_path, newest(**reached), held(20, OWN))
    assert again.held_to == {3: 20} and again.transaction not in ("", OWN)
    renamed = again.transaction.removeprefix("bpm-")
    assert take_over(tmp_path, newest(**{renamed: 10}), held(25)) == again
    third = take_over(tmp_path, newest(**{renamed: 11}), held(26, again.transaction))
    assert third.held_to == {3: 26} and third.transaction not in (OWN, again.transaction)


@pytest.mark.parametrize(("noted", "taken"), [(-1, {}), (7, {3: 99})])
def test_a_note_with_one_offset_for_all_partitions_is_understood(
    tmp_path: Path, noted: int, taken: dict[int, int]
) -> None:
    made_by_spark(tmp_path, 9)
    (tmp_path / "fitness.json").write_text(json.dumps({"version": 1, "held_to": noted}))
    for _ in range(2):
        assert take_over(tmp_path, newest(e300=9), held(99)) == TakenOver(taken, OWN)


def test_a_checkpoint_of_another_version_is_refused_as_it_is(tmp_path: Path) -> None:
    made_by_spark(tmp_path)
    note = tmp_path / "fitness.json"
    note.write_text(json.dumps({"version": 99, "held_to": -1}))
    with pytest.raises(IncompatibleCheckpoint, match="version 99"):
        take_over(tmp_path, newest(), held(1))
    assert json.loads(note.read_text()) == {"version": 99, "held_to": -1}


def test_a_commit_says_which_batch_it_holds() -> None:
    assert batch_of(note_of(OWN, 7)) == (OWN, 7)


@pytest.mark.parametrize("note", [None, "", "erasure 2026-03-01", "[]", "7", '{"job":"bronze.registrations"}'])
def test_a_commit_of_another_is_of_no_batch(note: str | None) -> None:
    assert batch_of(note)[0] == ""
