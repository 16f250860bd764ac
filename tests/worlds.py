"""Generated worlds for property tests: small, and full of the cases in which a rule shows.

Times come from a few anchors (midnights, a leap day, the end of daylight saving, years ago, now) and a few steps around
the rules' borders (a second, 3 hours exactly and one microsecond more): collisions are the rule.
Every member has ids of its own block, so that many members are many independent experiments in one run of the jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from hypothesis import strategies as st

from tests.oracle import ProfileChange, Reading, RegistrationVersion, VisitVersion, WorkoutEvent, World, at
from tests.oracle.facts import DAY, HOUR, MINUTE, SECOND

NOW = at("2024-03-02T12:00:00")
ANCHORS = [
    at("2024-02-28T22:30:00"),
    at("2024-02-29T23:59:59"),  # a leap day, a second before midnight
    at("2024-03-01T00:00:00"),
    at("2023-10-29T00:59:59"),  # where daylight saving ends in places that have it
    at("2009-12-31T23:59:30"),  # years ago
    NOW - 3 * HOUR,
]
YEARS_AGO = st.just(ANCHORS[-2])
STEPS = [0, 1, SECOND, 15 * SECOND, 16 * SECOND, MINUTE, 45 * MINUTE, 3 * HOUR - 1, 3 * HOUR, 3 * HOUR + 1, DAY]
BPMS = [20.000001, 66.62, 114.0, 132.9999, 133.0, 171.0, 171.3, 249.99, 250.0]
BIRTHDAYS = [None, date(2006, 3, 1), date(2006, 2, 28), date(2004, 2, 29), date(1989, 3, 1), date(1928, 12, 31)]


@dataclass
class Member:
    """All that the sources say of one member, and the readings of the devices that begin with this member."""

    registrations: list[RegistrationVersion] = field(default_factory=list)
    visits: list[VisitVersion] = field(default_factory=list)
    profile_changes: list[ProfileChange] = field(default_factory=list)
    workout_events: list[WorkoutEvent] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)


@st.composite
def members(draw: st.DrawFn, number: int, count: int) -> Member:
    """Member `number` of `count`. Device 10n belongs to member n; a neighbour may take it over."""
    user_id = number
    # Mostly around one anchor, so that what is said of a member meets.
    anchor = draw(st.sampled_from(ANCHORS))
    anchors = st.sampled_from([anchor] * 6 + ANCHORS)
    moment_of = st.builds(int.__add__, anchors, st.sampled_from(STEPS))
    neighbour = number % count + 1

    def some(kind: st.SearchStrategy[Any], most: int) -> list[Any]:
        return draw(st.lists(kind, max_size=most))

    devices = st.sampled_from([*[10 * number] * 6, 10 * number + 1, 10 * neighbour])
    registered = some(st.tuples(devices, moment_of | YEARS_AGO | YEARS_AGO), 3)
    registrations = [
        RegistrationVersion(user_id, device, f"mac-{device}", moment, 1000 * number + step)
        for step, (device, moment) in enumerate(registered)
    ]
    if registrations and draw(st.integers(0, 4)) == 0:
        last = registrations[-1]
        registrations.append(
            RegistrationVersion(
                user_id, last.device_id, last.mac_address, last.registered_at, last.row_version + 1, is_deleted=True
            )
        )

    visits = []
    for visit in range(draw(st.integers(0, 3))):
        device, login = draw(devices), draw(moment_of)
        gym, versions = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3))
        for step in range(versions):
            logout = draw(st.none() | st.sampled_from([login + step for step in STEPS]))
            deleted = step > 0 and draw(st.integers(0, 3)) == 0
            visits.append(
                VisitVersion(
                    10 * number + visit, f"mac-{device}", gym, login, logout, 1000 * number + step, is_deleted=deleted
                )
            )

    changes = []
    for step in range(draw(st.integers(0, 4))):
        deleted = step > 0 and draw(st.integers(0, 2)) == 0
        moment = draw(moment_of)
        changes.append(
            ProfileChange((100 * number + step // 2, step), "d", user_id, committed_at=moment)
            if deleted
            else ProfileChange(
                (100 * number + step // 2, step),
                draw(st.sampled_from("cur")),
                user_id,
                changed_at=moment,
                date_of_birth=draw(st.sampled_from(BIRTHDAYS)),
                city=draw(st.sampled_from(["Utrecht", "Zürich", "'; DROP TABLE x; --", None])),
                gender=draw(st.sampled_from(["f", "m", None])),
            )
        )

    events, readings = [], []
    for session in range(draw(st.integers(0, 2))):
        begin = draw(moment_of)
        if draw(st.booleans()):  # an ordinary workout: where all is odd, hardly a reading is in a session
            end = begin + draw(st.sampled_from([MINUTE, 45 * MINUTE, 3 * HOUR]))
            events += [WorkoutEvent(user_id, 1, session, *told) for told in (("start", begin), ("stop", end))]
            soon = st.builds(int.__add__, st.just(begin), st.sampled_from(STEPS[:6]))
            readings += some(st.builds(Reading, st.just(10 * number), soon, st.sampled_from(BPMS)), 8)
            continue
        around = st.builds(int.__add__, st.just(begin), st.sampled_from([-SECOND, *STEPS]))
        events.append(WorkoutEvent(user_id, 1, session, draw(st.sampled_from(["start", "start", "stop"])), begin))
        events += [
            WorkoutEvent(
                user_id, draw(st.sampled_from([1, 1, 2])), session, draw(st.sampled_from(["start", "stop"])), when
            )
            for when in some(around, 4)
        ]
        readings += some(st.builds(Reading, devices, around, st.sampled_from(BPMS)), 8)
    one_value = {(reading.device_id, reading.read_at): reading for reading in readings}
    return Member(registrations, visits, changes, events, list(one_value.values()))


@st.composite
def worlds(draw: st.DrawFn, count: int = 25) -> World:
    """A world of `count` members in which no two readings contradict each other (there order would show)."""
    drawn = [draw(members(number, count)) for number in range(1, count + 1)]
    value_of: dict[tuple[int, int], Reading] = {}
    for member in drawn:
        for reading in member.readings:
            value_of.setdefault((reading.device_id, reading.read_at), reading)

    def all_of(part: Callable[[Member], list[Any]]) -> list[Any]:
        return [fact for member in drawn for fact in part(member)]

    return World(
        registrations=all_of(lambda member: member.registrations),
        visits=all_of(lambda member: member.visits),
        profile_changes=one_per_position(all_of(lambda member: member.profile_changes)),
        workout_events=all_of(lambda member: member.workout_events),
        readings=list(value_of.values()),
    )


def one_per_position(changes: list[ProfileChange]) -> list[ProfileChange]:
    """A log holds at most one delete and one upsert of a key at a position."""
    kept = {(change.user_id, change.position[0], change.op == "d"): change for change in changes}
    return list(kept.values())
