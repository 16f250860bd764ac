from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from local.simulator.facts import (
    DAY,
    Deregistration,
    Fact,
    Message,
    Profile,
    ProfileDeletion,
    ProfileMove,
    Readings,
    Registration,
    Visit,
    VisitDeletion,
    Workout,
    microseconds,
)
from local.simulator.ledger import (
    Batch,
    Delivery,
    Ledger,
    LedgerInUse,
    deliveries,
    in_doubt,
    is_complete,
    options,
    read_batches,
    run_id,
    runs,
    segment,
)
from local.simulator.world import Story, world
from tests.oracle.from_ledger import truth

PROFILE = Profile(
    1, date(2004, 2, 29), "F", "female", "Zoë", "O'Brien", None, "Ghent", "", "9000", 1_700_000_000_000_001
)
ROWS: list[Fact] = [
    Registration(1, 100, "02:00", 5),
    Deregistration(1),
    PROFILE,
    replace(PROFILE, date_of_birth=None),
    ProfileMove(1, 2, 7),
    ProfileDeletion(2),
    Visit(9, "02:00", 3, 1, None),
    Visit(9, "02:00", 3, 1, 2),
    VisitDeletion(9),
    Workout(1, 2, 3, "start", 4),
]
MESSAGES = [Message("bpm", b"\x00\xff", None), Message("workout", None, b"{")]
OPTIONS = {"mode": "history", "seed": 1}


def batch(*stories: Fact) -> Batch:
    made = Batch()
    for fact in stories:
        made.add(fact)
    return made


def readings(device: int, *read_at: int) -> Readings:
    return Readings(device, np.array(read_at, dtype=np.int64), np.array([60.25 + i for i in range(len(read_at))]))


def plain(found: Batch) -> tuple[object, ...]:
    parts = [(part.device_id, part.read_at.tolist(), part.bpm.tolist()) for part in found.readings]
    return found.rows, found.messages, parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / run_id("history", 1)


def test_what_is_written_is_read_again(folder: Path) -> None:
    written = [
        batch(*ROWS, *MESSAGES, readings(7, 3, 1, 2), readings(8, 1)),
        batch(ROWS[0]),
        batch(readings(7, -5, 9_000_000_000_000_000)),
    ]
    with Ledger(folder, OPTIONS) as ledger:
        assert [ledger.write(one) for one in written] == [0, 1, 2]
    assert [(number, plain(one)) for number, one in read_batches(folder)] == [
        (number, plain(one)) for number, one in enumerate(written)
    ]
    assert options(folder) == OPTIONS


def test_batches_without_a_mark_are_in_doubt(folder: Path) -> None:
    with Ledger(folder, OPTIONS) as ledger:
        for number in range(3):
            ledger.write(batch(readings(7, number)))
        ledger.mark_delivered(Delivery(0, 1, 2))
        ledger.mark_delivered(Delivery(2, 3, 4))
    assert [(number, plain(found)) for number, found in in_doubt(folder)] == [(1, plain(batch(readings(7, 1))))]
    assert deliveries(folder)[2] == Delivery(2, 3, 4)
    assert not is_complete(folder)


def test_a_killed_writer_leaves_nothing_half(folder: Path) -> None:
    ledger = Ledger(folder, OPTIONS)
    ledger.write(batch(readings(7, 1)), told=1)
    ledger.write(batch(readings(7, 2)), told=2)
    # As after kill -9: the last line and the last record batch are torn, no stream has an end mark.
    journal, stream = folder / "journal.jsonl", segment(folder, 0)
    journal.write_bytes(journal.read_bytes()[:-20])
    stream.write_bytes(stream.read_bytes()[:-7])
    ledger._lock.close()
    assert [number for number, _ in read_batches(folder)] == [0]

    with Ledger(folder) as again:
        assert again.told == 1
        assert again.write(batch(readings(7, 3), ROWS[0]), told=3) == 1
    assert [plain(found) for _, found in read_batches(folder)] == [
        plain(batch(readings(7, 1))),
        plain(batch(readings(7, 3), ROWS[0])),
    ]


def test_one_process_writes_a_run(folder: Path) -> None:
    with Ledger(folder, OPTIONS), pytest.raises(LedgerInUse):
        Ledger(folder)


def test_runs_are_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    names = [run_id(mode, 1, datetime(2024, 1, day, tzinfo=UTC)) for day, mode in ((9, "live"), (10, "history"))]
    for name in reversed(names):
        Ledger(tmp_path / name, OPTIONS).close()
    (tmp_path / "something else").mkdir()
    assert [found.name for found in runs(tmp_path)] == names


def test_the_oracle_is_told_the_same_by_ledger_and_story(folder: Path) -> None:
    since = microseconds(datetime(2024, 2, 1, tzinfo=UTC))
    facts = [a.fact for a in world(Story(3, 6, since, since + 9 * DAY, reading_interval=15.0))]
    with Ledger(folder, OPTIONS) as ledger:
        iterator = iter(facts)
        while part := list(islice(iterator, 50)):
            ledger.mark_delivered(Delivery(ledger.write(batch(*part)), since, since))
    found = truth(folder.parent)
    assert len(found.world.readings) == sum(f.read_at.size for f in facts if isinstance(f, Readings))
    told = [f for f in facts if isinstance(f, Workout)]
    assert [tuple(event) for event in found.world.workout_events] == [
        (f.user_id, f.workout_id, f.session_id, f.action, f.occurred_at) for f in told
    ]
    assert len(found.world.visits) == sum(isinstance(f, Visit | VisitDeletion) for f in facts)
    assert sum(map(len, found.refused.values())) == sum(isinstance(f, Message) for f in facts)


def test_key_change_is_a_delete_and_a_create_at_one_position(folder: Path) -> None:
    with Ledger(folder, OPTIONS) as ledger:
        ledger.mark_delivered(Delivery(ledger.write(batch(PROFILE, ProfileMove(1, 2, 8), ProfileDeletion(2))), 10, 30))
    changes = truth(folder.parent, deleted_at={1: [11]}).world.profile_changes
    assert [(c.op, c.user_id, c.position[0], c.changed_at, c.committed_at) for c in changes] == [
        ("c", 1, 1, PROFILE.changed_at, None),
        ("d", 1, 2, None, 11),
        ("c", 2, 2, 8, None),
        ("d", 2, 3, None, 20),
    ]
    with pytest.raises(ValueError, match="deletion between"):
        truth(folder.parent, deleted_at={1: [9]})


def test_journal_lines_are_json(folder: Path) -> None:
    with Ledger(folder, OPTIONS) as ledger:
        ledger.write(batch(*ROWS))
    [line] = (folder / "journal.jsonl").read_text().splitlines()
    assert json.loads(line)["rows"][2][:3] == ["Profile", 1, "2004-02-29"]


def test_a_run_that_could_not_be_begun_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fills_the_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", fills_the_disk)
    with pytest.raises(OSError, match="No space"):
        Ledger(tmp_path / "run", OPTIONS)
    assert runs(tmp_path) == []
