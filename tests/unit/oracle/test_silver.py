from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import permutations

import pytest

from tests.oracle import ProfileChange, Reading, RegistrationVersion, VisitVersion, WorkoutEvent, at
from tests.oracle.silver import (
    Session,
    SessionReading,
    Visit,
    Wearing,
    heart_rate,
    profile_history,
    profiles,
    refuse_visit,
    session_readings,
    sessions,
    users,
    visits,
    wearings,
)

T0, T1, T2, T3 = (at(f"2024-01-0{day}T10:00:00") for day in (1, 2, 3, 4))


def registration(user: int, device: int, moment: int, version: int, deleted: bool = False) -> RegistrationVersion:
    return RegistrationVersion(user, device, f"mac-{device}", moment, version, deleted)


def wearing(user: int, device: int, valid_from: int, valid_to: int | None) -> Wearing:
    return Wearing(user, device, f"mac-{device}", valid_from, valid_to)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param([registration(1, 7, T0, 1)], [wearing(1, 7, T0, None)], id="one device"),
        pytest.param(
            [registration(1, 7, T0, 1), registration(1, 8, T1, 2)],
            [wearing(1, 7, T0, T1), wearing(1, 8, T1, None)],
            id="device replaced",
        ),
        pytest.param(
            [registration(1, 7, T0, 1), registration(1, 7, T1, 2), registration(1, 8, T2, 3)],
            [wearing(1, 7, T0, T2), wearing(1, 8, T2, None)],
            id="the same device registered again is one period",
        ),
        pytest.param(
            [registration(1, 7, T0, 1), registration(2, 7, T1, 2), registration(1, 8, T2, 3)],
            [wearing(1, 7, T0, T1), wearing(1, 8, T2, None), wearing(2, 7, T1, None)],
            id="device handed over before the giver has a new one",
        ),
        pytest.param(
            [registration(1, 7, T0, 1), registration(2, 7, T1, 2), registration(1, 7, T2, 3)],
            [wearing(1, 7, T0, T1), wearing(1, 7, T2, None), wearing(2, 7, T1, T2)],
            id="a device that comes back",
        ),
        pytest.param(
            [registration(1, 7, at("1999-12-31"), 1), registration(1, 8, T1, 2)],
            [wearing(1, 8, T1, None)],
            id="registered before 2000 is refused",
        ),
        pytest.param(
            [registration(1, 7, T0, 1), registration(1, 8, T0, 2)],
            [wearing(1, 8, T0, None)],
            id="corrected at once: the higher version wins",
        ),
        pytest.param(
            [registration(1, 7, T0, 1), registration(1, 7, T1, 2, deleted=True)],
            [wearing(1, 7, T0, None)],
            id="a deletion ends nothing",
        ),
        pytest.param(
            [registration(1, 7, T0, 1), registration(2, 7, T0, 2)],
            [wearing(2, 7, T0, None)],
            id="two members in the same instant: the later version",
        ),
        pytest.param(
            [registration(1, 8, T1, 1), registration(1, 7, T0, 2)],
            [wearing(1, 7, T0, T1), wearing(1, 8, T1, None)],
            id="an older registration comes later",
        ),
    ],
)
def test_device_periods(versions: list[RegistrationVersion], expected: list[Wearing]) -> None:
    for order in permutations(versions):
        assert sorted(wearings(order), key=repr) == sorted(expected, key=repr)


def test_deleted_member_is_no_user_until_registered_again() -> None:
    gone = [registration(1, 7, T1, 1), registration(1, 7, T1, 2, deleted=True)]
    assert users(gone) == {}
    assert users([*gone, registration(1, 7, T0, 3)]) == {1: T0}


def change(position: int, op: str, moment: int, user: int = 1, city: str = "Ghent") -> ProfileChange:
    if op == "d":
        return ProfileChange((position, 0), op, user, committed_at=moment)
    return ProfileChange((position, 0), op, user, changed_at=moment, city=city, date_of_birth=date(1990, 1, 1))


def test_profile_is_ordered_by_source_position_not_by_arrival_or_time() -> None:
    changes = [change(1, "c", T2), change(2, "u", T1, city="Bruges")]
    for order in permutations(changes):
        assert profiles(order)[1].city == "Bruges"
    [period] = profile_history(changes)
    assert (period.valid_from, period.valid_to, period.change.city) == (T2, None, "Bruges")


def test_late_update_does_not_revive_a_deleted_member() -> None:
    changes = [change(1, "c", T0), change(3, "d", T2), change(2, "u", T1)]
    assert profiles(changes) == {}
    assert [(p.valid_from, p.valid_to) for p in profile_history(changes)] == [(T0, T1), (T1, T2)]


def test_recreated_profile_starts_no_earlier_than_the_delete_ended_it() -> None:
    changes = [change(1, "c", T0), change(2, "d", T2), change(3, "c", T1, city="Mons")]
    assert profiles(changes)[1].city == "Mons"
    assert [(p.valid_from, p.valid_to) for p in profile_history(changes)] == [(T0, T2), (T2, None)]


def test_key_change_moves_the_profile() -> None:
    changes = [change(1, "c", T0), change(2, "d", T1), change(2, "c", T1, user=9)]
    assert set(profiles(changes)) == {9}


def test_key_change_back_to_itself_within_one_position_deletes_first() -> None:
    created, deleted = change(2, "c", T1, city="Liège"), change(2, "d", T1)
    assert profiles([change(1, "c", T0), created, deleted])[1].city == "Liège"


def test_profile_deleted_before_its_time_leaves_no_history() -> None:
    assert profile_history([change(1, "c", T1), change(2, "d", T0)]) == []


def visit(version: int, logout: int | None, login: int = T0, mac: str = "mac-7", deleted: bool = False) -> VisitVersion:
    return VisitVersion(5, mac, 3, login, logout, version, deleted)


def test_visit_is_its_latest_version_and_belongs_to_the_wearer_at_login() -> None:
    worn = [wearing(1, 7, T0, T1), wearing(2, 7, T1, None)]
    assert visits([visit(2, T1), visit(1, None)], worn) == [Visit(5, 1, "mac-7", 3, T0, T1)]
    assert visits([visit(1, None, login=T1)], worn) == [Visit(5, 2, "mac-7", 3, T1, None)]
    assert visits([visit(1, None, mac="mac-0")], worn) == [Visit(5, None, "mac-0", 3, T0, None)]
    assert visits([visit(1, None), visit(2, None, deleted=True)], worn) == []


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param(visit(1, T0 - 1), "ends_before_start", id="logout before login"),
        pytest.param(visit(1, None, login=at("1999-12-31T23:59:59")), "before_2000", id="before 2000"),
        pytest.param(replace(visit(1, None), gym_id=None), "missing_field", id="no gym"),
    ],
)
def test_visit_is_refused(version: VisitVersion, reason: str) -> None:
    refusal = refuse_visit(version)
    assert refusal is not None and refusal.reason == reason
    assert visits([version], []) == []


def test_refused_version_leaves_the_visit_as_it_was() -> None:
    assert visits([visit(1, T1), visit(2, T0 - 1)], []) == [Visit(5, None, "mac-7", 3, T0, T1)]


def test_of_two_devices_with_one_address_the_later_period_counts() -> None:
    worn = [Wearing(1, 7, "mac-7", T0, None), Wearing(2, 8, "mac-7", T1, None), Wearing(3, 9, "mac-7", T3, None)]
    [found] = visits([visit(1, None, login=T2)], worn)
    assert found.user_id == 2


def test_visit_of_no_length_is_accepted() -> None:
    assert refuse_visit(visit(1, T0)) is None


MIDNIGHT = at("2024-01-02T00:00:00")
THREE_HOURS = at("2024-01-01T03:00:00") - at("2024-01-01")


def start(moment: int) -> WorkoutEvent:
    return WorkoutEvent(1, 2, 3, "start", moment)


def stop(moment: int) -> WorkoutEvent:
    return WorkoutEvent(1, 2, 3, "stop", moment)


@pytest.mark.parametrize(
    ("events", "now", "expected"),
    [
        pytest.param([start(T0), stop(T0 + 60)], T3, (T0, T0 + 60, "completed"), id="start and stop"),
        pytest.param([start(T0), stop(T0)], T3, (T0, T0, "completed"), id="no length"),
        pytest.param([start(MIDNIGHT - 60), stop(MIDNIGHT + 60)], T3, (MIDNIGHT - 60, MIDNIGHT + 60, "completed"),
                     id="over midnight"),
        pytest.param([start(T0), stop(T0 + THREE_HOURS)], T3, (T0, T0 + THREE_HOURS, "completed"), id="exactly 3 h"),
        pytest.param([start(T0), stop(T0 + THREE_HOURS + 1)], T3, (T0, None, "abandoned"), id="over 3 h"),
        pytest.param([start(T0), stop(T0 - 1)], T3, (T0, None, "abandoned"), id="stop before start"),
        pytest.param([start(T0), start(T0 + 30), stop(T0 + 60)], T3, (T0, T0 + 60, "completed"), id="two starts"),
        pytest.param([start(T0), stop(T0 + 90), stop(T0 + 60)], T3, (T0, T0 + 60, "completed"), id="two stops"),
        pytest.param([start(T0), stop(T0 - 1), stop(T0 + 60)], T3, (T0, T0 + 60, "completed"), id="an early stop too"),
        pytest.param([start(T0)], T0 + THREE_HOURS, (T0, None, "open"), id="open at exactly 3 h"),
        pytest.param([start(T0)], T0 + THREE_HOURS + 1, (T0, None, "abandoned"), id="abandoned after 3 h"),
        pytest.param([stop(T1), stop(T0)], T3, (None, T0, "stop_only"), id="stop only"),
    ],
)  # fmt: skip
def test_session(events: list[WorkoutEvent], now: int, expected: tuple[int | None, int | None, str]) -> None:
    for order in permutations(events):
        assert sessions(order, now) == [Session(1, 2, 3, *expected)]


def test_of_two_values_for_an_instant_the_first_to_arrive_stays() -> None:
    found = heart_rate([Reading(7, T0, 60.0), Reading(7, T0, 60.0), Reading(7, T0, 61.0), Reading(8, T0, 61.0)])
    assert found.accepted == {7: {T0: 60.0}, 8: {T0: 61.0}}
    assert found.duplicates == 1
    assert [refusal.reason for _, refusal in found.refused] == ["conflicting_reading"]


def test_refused_value_does_not_take_the_place_of_a_later_one() -> None:
    assert heart_rate([Reading(7, T0, 20.0), Reading(7, T0, 60.0)]).accepted == {7: {T0: 60.0}}


def test_reading_in_session_is_after_its_start_up_to_its_end_on_the_device_of_that_time() -> None:
    second = 1_000_000
    session = Session(1, 2, 3, T0, T0 + 4 * second, "completed")
    worn = [wearing(1, 7, 0, T0 + 2 * second), wearing(1, 8, T0 + 2 * second, None)]
    readings = {
        7: {T0 + n * second: 60.0 + n for n in range(6)},
        8: {T0 + n * second: 80.0 + n for n in range(6)},
    }
    assert session_readings([session], worn, readings) == [
        SessionReading(1, 2, 3, T0 + 1 * second, 61.0),
        SessionReading(1, 2, 3, T0 + 2 * second, 82.0),
        SessionReading(1, 2, 3, T0 + 3 * second, 83.0),
        SessionReading(1, 2, 3, T0 + 4 * second, 84.0),
    ]


def test_reading_before_the_registration_is_in_no_session() -> None:
    session = Session(1, 2, 3, T0, T0 + 100, "completed")
    assert session_readings([session], [wearing(1, 7, T1, None)], {7: {T0 + 50: 60.0}}) == []
