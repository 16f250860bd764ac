from __future__ import annotations

from datetime import date

import pytest

from tests.oracle import (
    ProfileChange,
    Reading,
    RegistrationVersion,
    VisitVersion,
    WorkoutEvent,
    World,
    at,
    differences,
    expected_tables,
)
from tests.oracle.facts import HOUR, MINUTE, SECOND
from tests.oracle.gold import VisitFinder, age_band, heart_rate_zone, minutes, statistics
from tests.oracle.silver import Visit

NOON = at("2024-03-10T12:00:00")
NOW = at("2024-04-01")


@pytest.mark.parametrize(
    ("day", "born", "band"),
    [
        pytest.param(date(2023, 2, 28), date(2005, 2, 28), "18-25", id="on the 18th birthday"),
        pytest.param(date(2023, 2, 27), date(2005, 2, 28), "under 18", id="the day before"),
        pytest.param(date(2022, 2, 28), date(2004, 2, 29), "under 18", id="leap day, 28 February"),
        pytest.param(date(2022, 3, 1), date(2004, 2, 29), "18-25", id="leap day, 1 March"),
        pytest.param(date(2024, 2, 29), date(1999, 2, 28), "25-35", id="on a leap day"),
        pytest.param(date(2024, 1, 1), date(1929, 1, 1), "95+", id="95"),
        pytest.param(date(2024, 1, 1), date(1929, 1, 2), "85-95", id="94"),
        pytest.param(date(2024, 1, 1), None, "unknown", id="unknown"),
    ],
)
def test_age_band_is_that_of_the_day(day: date, born: date | None, band: str) -> None:
    assert age_band(day, born) == band


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [(0, 0.0), (300_000, 0.01), (299_999, 0.0), (60_300_000, 1.01), (59 * SECOND, 0.98), (3 * HOUR, 180.0)],
)
def test_minutes_are_rounded_half_up_once(microseconds: int, expected: float) -> None:
    assert minutes(microseconds) == expected


def test_average_is_exact() -> None:
    assert statistics([0.1] * 3 + [100.0]).average == 100.3 / 4


@pytest.mark.parametrize(("bpm", "zone"), [(119.99, 1), (120.0, 2), (140.0, 3), (160.0, 4), (180.0, 5), (250.0, 5)])
def test_zone_of_a_twenty_year_old(bpm: float, zone: int) -> None:
    assert heart_rate_zone(bpm, date(2024, 1, 1), date(2004, 1, 1)) == zone


def test_zone_without_a_birthday_is_that_of_190() -> None:
    assert [heart_rate_zone(bpm, date(2024, 1, 1), None) for bpm in (113.99, 114.0, 171.0)] == [1, 2, 5]


def test_session_belongs_to_the_latest_login_that_covers_its_start() -> None:
    def visit(visit_id: int, login: int, logout: int | None) -> Visit:
        return Visit(visit_id, 1, "mac", visit_id * 10, login, logout)

    finder = VisitFinder([visit(1, 0, None), visit(2, 100, 200), visit(3, 100, 150), visit(4, 300, 300)])
    assert [found.visit_id if (found := finder.at(1, moment)) else None for moment in (-1, 0, 100, 150, 200, 300)] == [
        None, 1, 3, 2, 1, 1,
    ]  # fmt: skip
    assert finder.at(2, 100) is None


def small_world() -> World:
    """A member of 34 with a visit from 11:50 to 12:30 and one still open, and a session from 12:00 to 12:20."""
    return World(
        registrations=[RegistrationVersion(1, 7, "mac-7", at("2024-01-01"), 1)],
        visits=[
            VisitVersion(1, "mac-7", 5, NOON - 10 * MINUTE, NOON + 30 * MINUTE, 1),
            VisitVersion(2, "mac-7", 5, NOON + 8 * HOUR, None, 2),
            VisitVersion(3, "stranger", 5, NOON, NOON + MINUTE, 3),
        ],
        profile_changes=[
            ProfileChange(
                (1, 0), "c", 1, at("2024-01-01"), date_of_birth=date(1990, 1, 1), gender="woman", city="Ghent"
            )
        ],
        workout_events=[
            WorkoutEvent(1, 1, 1, "start", NOON),
            WorkoutEvent(1, 1, 1, "stop", NOON + 20 * MINUTE),
            WorkoutEvent(1, 1, 2, "start", NOON + 25 * MINUTE),  # abandoned, in the same workout
            WorkoutEvent(1, 2, 1, "start", at("2024-03-11T23:59:50")),
            WorkoutEvent(1, 2, 1, "stop", at("2024-03-12T00:00:20")),
            WorkoutEvent(1, 3, 1, "stop", NOON),
        ],
        readings=[
            Reading(7, NOON, 99.0),  # the start itself is not in the session
            Reading(7, NOON + 5 * SECOND, 100.0),  # 53.8 % of 186: zone 1, for 5 s
            Reading(7, NOON + 65 * SECOND, 130.0),  # 69.9 %: zone 2, for 15 s of the 60
            Reading(7, at("2024-03-12T00:00:05"), 180.0),  # 96.8 %: zone 5, 15 s, on the day after
            Reading(7, NOON + 2 * HOUR, 70.0),
        ],
    )


def test_workout_summary() -> None:
    first, second = sorted(
        expected_tables(small_world(), NOW)["gold.workout_summary"], key=lambda row: row["workout_id"]
    )
    assert first["minutes_exercising"] == 20.0
    assert (first["min_bpm"], first["avg_bpm"], first["max_bpm"], first["readings"]) == (100.0, 115.0, 130.0, 2)
    assert (first["gym_id"], first["age_band"], first["city"], first["state"]) == (5, "25-35", "Ghent", None)
    assert (second["minutes_exercising"], second["gym_id"], second["readings"]) == (0.5, 5, 1)


def test_workout_completion_counts_every_session_with_a_start() -> None:
    rows = expected_tables(small_world(), NOW)["gold.workout_completion"]
    assert sorted((str(row["workout_date"]), row["gym_id"], row["started"], row["completed"], row["abandoned"])
                  for row in rows) == [("2024-03-10", 5, 2, 1, 1), ("2024-03-11", 5, 1, 1, 0)]  # fmt: skip
    assert {row["completion_rate"] for row in rows} == {0.5, 1.0}


def test_gym_activity_counts_the_minutes_of_a_visit_once_and_open_visits_as_unknown() -> None:
    rows = {
        (row["activity_date"].day, row["user_id"]): row
        for row in expected_tables(small_world(), NOW)["gold.gym_activity"]
    }
    # The open visit of the evening also holds the session of the next day.
    assert rows[10, 1] == {
        "activity_date": date(2024, 3, 10), "gym_id": 5, "user_id": 1, "mac_address": "mac-7",
        "visits": 2, "workouts": [1, 2], "minutes_in_gym": 40.0, "minutes_exercising": 20.5,
    }  # fmt: skip
    assert rows[10, None]["minutes_in_gym"] == 1.0
    assert rows[10, None]["workouts"] == []


def test_only_open_visits_have_unknown_minutes() -> None:
    world = World(visits=[VisitVersion(2, "mac-7", 5, NOON, None, 2)])
    [row] = expected_tables(world, NOW)["gold.gym_activity"]
    assert row["minutes_in_gym"] is None and row["visits"] == 1 and row["minutes_exercising"] == 0.0


def test_user_activity() -> None:
    rows = {row["activity_date"].day: row for row in expected_tables(small_world(), NOW)["gold.user_activity"]}
    assert set(rows) == {10, 11, 12}
    assert (rows[10]["visits"], rows[10]["sessions"], rows[10]["minutes_exercising"]) == (2, 2, 20.0)
    assert [rows[10][f"minutes_zone_{zone}"] for zone in range(1, 6)] == [0.08, 0.25, 0.0, 0.0, 0.0]
    assert (rows[10]["avg_bpm"], rows[10]["max_bpm"]) == (115.0, 130.0)
    assert (rows[11]["visits"], rows[11]["sessions"], rows[11]["minutes_exercising"], rows[11]["avg_bpm"]) == (
        0,
        1,
        0.5,
        None,
    )
    assert (rows[12]["sessions"], rows[12]["minutes_zone_5"], rows[12]["max_bpm"]) == (0, 0.25, 180.0)
    assert [rows[day]["streak_days"] for day in (10, 11, 12)] == [1, 2, 0]


def test_bpm_trends() -> None:
    rows = {str(row["minute"]): row for row in expected_tables(small_world(), NOW)["gold.bpm_trends"]}
    assert rows["2024-03-10 12:00:00+00:00"] == {
        "device_id": 7, "minute": rows["2024-03-10 12:00:00+00:00"]["minute"],
        "min_bpm": 99.0, "avg_bpm": 99.5, "max_bpm": 100.0, "readings": 2,
    }  # fmt: skip
    assert len(rows) == 4


def test_order_of_everything_but_conflicting_readings_changes_nothing() -> None:
    world = small_world()
    backwards = World(**{name: list(reversed(getattr(world, name))) * 2 for name in World.__dataclass_fields__})
    for table, rows in expected_tables(world, NOW).items():
        key = tuple(rows[0]) if rows else ()
        assert not differences(table, rows, expected_tables(backwards, NOW)[table], [k for k in key if k != "workouts"])
