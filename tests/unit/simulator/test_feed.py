from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from local.simulator.facts import (
    DAY,
    Deregistration,
    Profile,
    Registration,
    RowFact,
    Visit,
    Workout,
    microseconds,
)
from local.simulator.feed import Clock, Pause, known, settle_doubts, tell, versions_apart
from local.simulator.ledger import Batch, Delivery, Ledger, is_complete, read_batches
from local.simulator.rubbish import odd_readings, odd_workouts
from local.simulator.sources import SQL, Sources, Stopped, encode, statements
from local.simulator.world import Arrival, Known, Odds, Story, world
from tests.oracle.facts import Refusal
from tests.oracle.messages import judge_reading, judge_workout

SINCE = microseconds(datetime(2024, 2, 1, tzinfo=UTC))


class Listener(Sources):
    """Sources that take everything, until `fails_at` batches have come."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.heard: list[tuple[str, int, Batch]] = []
        self._fails_at = fails_at

    def deliver(self, run_id: str, number: int, batch: Batch) -> Delivery:
        if len(self.heard) == self._fails_at:
            raise Stopped
        self.heard.append((run_id, number, batch))
        return Delivery(number, 1, 2)


def story(**changes: float) -> list[Arrival]:
    odds = Odds(**{"leaves": 0.4, "returns": 0.5, "replaces_device": 0.3, **changes})
    return list(world(Story(3, 10, SINCE, SINCE + 8 * DAY, odds=odds, reading_interval=15.0)))


def start(folder: Path, listener: Sources, on_pause: Callable[[], bool] = lambda: True) -> None:
    has_begun = (folder / "run.json").exists()
    with Ledger(folder, None if has_begun else {"mode": "history", "seed": 3}) as ledger:
        tell(versions_apart(story()), ledger, listener, threading.Event(), Clock(SINCE, None), on_pause=on_pause)


def test_everything_is_told_once_and_written_down_first(tmp_path: Path) -> None:
    listener = Listener()
    start(tmp_path / "run", listener)
    arrivals = story()
    assert sum(len(b.rows) + len(b.messages) + len(b.readings) for _, _, b in listener.heard) == len(arrivals)
    assert len(list(read_batches(tmp_path / "run"))) == len(listener.heard)
    assert is_complete(tmp_path / "run")


@pytest.mark.parametrize("killed_at", [0, 1, 2])
def test_an_interrupted_story_goes_on_where_it_stopped(tmp_path: Path, killed_at: int) -> None:
    whole, broken, rest = Listener(), Listener(fails_at=killed_at), Listener()
    start(tmp_path / "whole", whole)
    with pytest.raises(Stopped):
        start(tmp_path / "broken" / "run", broken)
    assert not is_complete(tmp_path / "broken" / "run")
    assert settle_doubts(tmp_path / "broken", rest) == 1
    start(tmp_path / "broken" / "run", rest)
    heard = [b.rows for _, _, b in (*broken.heard, *rest.heard)]
    assert [row for rows in heard for row in rows] == [row for _, _, b in whole.heard for row in b.rows]
    assert settle_doubts(tmp_path / "broken", rest) == 0


def test_second_versions_of_registrations_wait_until_the_first_have_been_read() -> None:
    told = list(versions_apart(story()))
    assert len(told) - sum(isinstance(one, Pause) for one in told) == len(story())
    seen_since_pause: set[int] = set()
    pauses = 0
    for arrival in told:
        if isinstance(arrival, Pause):
            seen_since_pause.clear()
            pauses += 1
        elif isinstance(arrival.fact, Registration | Deregistration):
            assert arrival.fact.user_id not in seen_since_pause
            seen_since_pause.add(arrival.fact.user_id)
    assert pauses >= 2


def test_what_must_wait_stays_untold_until_the_next_time(tmp_path: Path) -> None:
    first, second = Listener(), Listener()
    start(tmp_path / "run", first, on_pause=lambda: False)
    assert not is_complete(tmp_path / "run")
    assert not any(isinstance(row, Deregistration) for _, _, b in first.heard for row in b.rows)
    start(tmp_path / "run", second)
    assert is_complete(tmp_path / "run")
    assert {type(row) for _, _, b in second.heard for row in b.rows} <= {Registration, Deregistration}
    assert any(isinstance(row, Deregistration) for _, _, b in second.heard for row in b.rows)


def test_a_run_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    with Ledger(tmp_path / "run", {"mode": "live", "seed": 1}) as ledger:
        ledger.write(Batch(rows=[Deregistration(1)]))
        assert settle_doubts(tmp_path, Listener()) == 0


def test_the_ledger_says_where_each_member_was_left(tmp_path: Path) -> None:
    registration = Registration(3_000_001, 300_000_100, "02", 1)
    rows: list[RowFact] = [
        registration,
        Profile(3_000_001, None, None, None, None, None, None, None, None, None, 1),
        Visit(3_000_001_00007, "02", 1, 1, None),
        Workout(3_000_001, 12, 1, "start", 1),
        Registration(3_000_002, 1, "03", 1),
        Deregistration(3_000_002),
    ]
    with Ledger(tmp_path / "run", {"mode": "live", "seed": 3}) as ledger:
        ledger.write(Batch(rows=rows))
    assert known(tmp_path, 3) == {3_000_001: Known(registration, True, 7, 12)}
    assert known(tmp_path, 4) == {}


def test_clock_sends_together_what_falls_into_one_step() -> None:
    clock = Clock(SINCE, speed=10.0, step_seconds=1.0)
    assert clock.seconds_until(SINCE) <= 0
    waits = [clock.seconds_until(SINCE + second * 1_000_000) for second in (1, 9, 10, 11)]
    assert [round(wait) for wait in waits] == [1, 1, 1, 2]
    assert Clock(SINCE, speed=None).seconds_until(SINCE + DAY) == 0


def test_a_story_that_goes_on_does_not_wait_for_what_was_told_before() -> None:
    clock = Clock(None, speed=1.0)
    assert clock.seconds_until(SINCE + DAY) <= 0
    assert round(clock.seconds_until(SINCE + DAY + 5_000_000)) == 5


def test_rows_keep_their_order_within_a_table() -> None:
    first, second = Registration(1, 1, "a", 1), Registration(2, 1, "a", 1)
    visit = Visit(1, "a", 1, 1, None)
    rows: list[RowFact] = [first, visit, second, Deregistration(1), Registration(1, 2, "b", 2)]
    found = [(statement, [parameters[0] for parameters in group]) for statement, group in statements(rows)]
    assert found == [
        (SQL[Registration], [1, 2]),
        (SQL[Deregistration], [1]),
        (SQL[Registration], [1]),
        (SQL[Visit], [1]),
    ]


def test_readings_are_encoded_as_the_contract_writes_them() -> None:
    read_at = np.array([1_575_158_400_000_000, 1_575_158_400_123_456, 1_575_158_400_000_001], dtype=np.int64)
    messages = list(encode(np.array([119715, 7, 7]), read_at, np.array([66.62, 71.0, 80.125])))
    assert messages[0] == ("bpm", b"119715", b'{"device_id":119715,"time":1575158400,"heartrate":66.62}')
    for message, device, moment, bpm in zip(
        messages, (119715, 7, 7), read_at.tolist(), (66.62, 71.0, 80.125), strict=True
    ):
        assert judge_reading(message.value, moment) == (device, moment, bpm)


def test_every_piece_of_rubbish_is_refused() -> None:
    second = SINCE // 1_000_000
    values = odd_readings(np.random.default_rng(1), 7, second)
    accepted = [v for v in values if not isinstance(judge_reading(v, SINCE + DAY), Refusal)]
    accepted += [v for v in odd_workouts(1, second) if not isinstance(judge_workout(v), Refusal)]
    assert not accepted
