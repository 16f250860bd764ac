"""Every case in which a rule shows, told by hand; and a random world in which everything odd happens often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, date, datetime

import numpy as np

from local.simulator.facts import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
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
from local.simulator.members import mac_address
from local.simulator.world import Arrival, Odds, Story, world

OFTEN = Odds(**{f.name: 0.2 for f in fields(Odds)} | {"without_device": 0.1, "at_home": 0.2, "rubbish": 0.5})


def at(text: str) -> int:
    return microseconds(datetime.fromisoformat(text).replace(tzinfo=UTC))


def random_world(seed: int, members: int, days: int, now: int) -> tuple[list[Arrival], int]:
    """A world and when its half is told. It ended so long ago that no open session becomes abandoned meanwhile."""
    until = now - 5 * HOUR
    since = until - days * DAY
    story = Story(seed, members, since, until, odds=OFTEN, reading_interval=15.0)
    return list(world(story)), since + days * DAY // 2


def in_parts(arrivals: Iterable[Arrival], cut: int) -> list[list[Arrival]]:
    """What arrives before and after the cut; of a member's registrations one version a part, more parts if needed.

    Registrations are polled: a version that is overwritten before it was read never was, for those who poll.
    """
    parts: dict[int, list[Arrival]] = defaultdict(list)
    last: dict[int, int] = {}
    for arrival in arrivals:
        part = int(arrival.arrives_at >= cut)
        if isinstance(arrival.fact, Registration | Deregistration):
            part = max(part, last.get(arrival.fact.user_id, -1) + 1)
            last[arrival.fact.user_id] = part
        parts[part].append(arrival)
    return [parts[number] for number in range(max(parts) + 1)]


def by_hand(now: int) -> list[list[Fact]]:
    """Three parts: what is told first, then later, then last. Members 1 to 20, devices ten times the member."""
    first: list[Fact] = []
    second: list[Fact] = []
    third: list[Fact] = []
    noon = at("2024-03-10T12:00:00")

    def registered(user: int, device: int | None = None, moment: int = at("2024-01-01")) -> Registration:
        device = 10 * user if device is None else device
        return Registration(user, device, mac_address(device), moment)

    def profile(user: int, changed_at: int = at("2024-01-01"), **changes: object) -> Profile:
        plain = Profile(
            user,
            date(1990, 5, 17),
            "F",
            "female",
            "Ada",
            "O'Brien",
            "1 Main Street",
            "Ghent",
            "VL",
            "09000",
            changed_at,
        )
        return replace(plain, **changes)  # type: ignore[arg-type]

    def session(user: int, start: int, stop: int, workout: int = 1, session_id: int = 1) -> list[Fact]:
        return [
            Workout(user, workout, session_id, "start", start),
            Workout(user, workout, session_id, "stop", stop),
        ]

    def readings(device: int, start: int, count: int, bpm: float = 120.25, step: int = SECOND) -> Readings:
        return Readings(
            device, start + step * np.arange(count, dtype=np.int64), np.round(bpm + np.arange(count) % 7 * 1.13, 2)
        )

    # 1: everything as it should be; readings at the edges of the session and of the range of values
    first += [registered(1), profile(1), Visit(101, mac_address(10), 5, noon - 10 * MINUTE, None)]
    first += [*session(1, noon, noon + 30 * MINUTE), readings(10, noon - 3 * SECOND, 1900)]
    first += [Readings(10, np.array([noon + HOUR, noon + HOUR + 1]), np.array([20.000001, 250.0]))]
    second += [Visit(101, mac_address(10), 5, noon - 10 * MINUTE, noon + 45 * MINUTE)]
    third += [Visit(101, mac_address(10), 5, noon - 10 * MINUTE, noon + 40 * MINUTE)]  # logout moved
    # a second visit that day, never left, with an abandoned session; the same workout again counts once
    first += [Visit(102, mac_address(10), 5, noon + 6 * HOUR, None), Workout(1, 1, 2, "start", noon + 6 * HOUR)]

    # 2: over midnight, in a leap year; born on a leap day, 18 by the first of March only
    first += [registered(2, moment=at("2022-01-01")), profile(2, date_of_birth=date(2004, 2, 29))]
    midnight = at("2022-03-01")
    first += [*session(2, midnight - 10 * MINUTE, midnight + 10 * MINUTE)]
    first += [readings(20, midnight - 10 * MINUTE, 1200)]

    # 3: exactly three hours, a microsecond more, no length, overlapping sessions
    first += [registered(3), profile(3, date_of_birth=None, gender=None, city="")]
    first += [*session(3, noon, noon + 3 * HOUR), *session(3, noon + HOUR, noon + 4 * HOUR + 1, session_id=2)]
    first += [*session(3, noon, noon, session_id=3), readings(30, noon, 100, step=15 * SECOND)]
    second += [readings(30, noon + 5 * SECOND, 100, step=40 * SECOND)]

    # 4: stop before start in time, start told after the stop, two starts, two stops, a stop alone
    first += [registered(4), profile(4), *session(4, noon, noon - SECOND)]
    first += [Workout(4, 2, 1, "stop", noon + HOUR), Workout(4, 4, 1, "stop", noon)]
    second += [Workout(4, 2, 1, "start", noon + 30 * MINUTE)]
    first += [*session(4, noon, noon + 40 * MINUTE, 3), *session(4, noon + MINUTE, noon + 20 * MINUTE, 3)]
    second += [Workout(4, 3, 1, "start", noon - 5 * MINUTE)]

    # 5 hands its device to 6, in the middle of a workout of both; 5 gets another one later
    first += [registered(5), registered(6), profile(5), profile(6, city="Bruges")]
    second += [registered(6, device=50, moment=noon + 5 * MINUTE)]
    third += [registered(5, device=51, moment=noon + 7 * MINUTE)]
    first += [*session(5, noon, noon + 10 * MINUTE), *session(6, noon, noon + 10 * MINUTE)]
    first += [readings(50, noon, 660), readings(51, noon, 660, 90.5)]
    first += [
        Visit(501, mac_address(50), 2, noon - MINUTE, None),
        Visit(601, mac_address(50), 2, noon + 6 * MINUTE, None),
    ]

    # 7: facts before the registration and the profile are known; a device worn before it was registered
    first += [*session(7, noon, noon + 10 * MINUTE), readings(70, noon, 600)]
    first += [
        Visit(701, mac_address(70), 3, noon - MINUTE, noon + HOUR),
        Visit(702, mac_address(70), 3, noon + DAY, None),
    ]
    second += [registered(7, moment=noon + 5 * MINUTE)]
    third += [profile(7)]

    # 8: profile changes out of order in time, two at one moment; 9: deleted, never to be revived; 10: comes back
    first += [registered(8), profile(8, changed_at=noon), profile(8, changed_at=noon - DAY, city="Mons")]
    second += [profile(8, changed_at=noon + DAY, city="Namur"), profile(8, changed_at=noon + DAY, city="Liège")]
    first += [registered(9), profile(9), *session(9, noon, noon + MINUTE)]
    second += [ProfileDeletion(9), Deregistration(9)]
    first += [registered(10), profile(10), readings(100, noon, 60), *session(10, noon, noon + MINUTE)]
    second += [ProfileDeletion(10), Deregistration(10)]
    third += [registered(10, moment=noon + 9 * DAY), profile(10, changed_at=noon + 9 * DAY, city="Arlon")]

    # 11 becomes 12: the key of the profile changes
    first += [registered(11), profile(11), registered(12), *session(12, noon, noon + MINUTE)]
    second += [ProfileMove(11, 12, noon + DAY)]

    # 13: years-old readings, on a device of 2009; a reading two minutes ahead of time; an open session
    first += [registered(13, moment=at("2009-06-01")), profile(13)]
    long_ago = at("2009-12-31T23:59:30")
    second += [*session(13, long_ago, long_ago + 3 * MINUTE), readings(130, long_ago, 180)]
    first += [Readings(130, np.array([now + 2 * MINUTE]), np.array([77.7]))]
    third += [Workout(13, 9, 1, "start", now - 10 * MINUTE)]

    # 14: contradictions and repetitions; the first to arrive stays
    first += [registered(14), *session(14, noon, noon + MINUTE), readings(140, noon, 60)]
    second += [readings(140, noon + 30 * SECOND, 60, 99.0), readings(140, noon, 30)]

    # 15: directly produced workouts, one with ISO times; 16: visits that are refused, deleted, of strangers
    first += [registered(15), profile(15)]
    started = b'{"user_id":15,"workout_id":1,"session_id":1,"action":"start","timestamp":"2024-03-10T13:00:00+01:00"}'
    stopped = b'{"session_id":1,"extra":[1],"workout_id":1,"user_id":15,"action":"stop","timestamp":1710072600.25}'
    first += [Message("workout", b"15", started)]
    second += [Message("workout", None, stopped)]
    iso = b'{"device_id":150,"time":"2024-03-10T12:00:01.123456Z","heartrate":1.2e2}'
    first += [Message("bpm", b"150", iso), Message("bpm", b"other", b"\x00"), Message("bpm", None, None)]
    first += [registered(16), profile(16)]
    first += [Visit(1601, mac_address(160), 1, noon, noon - 1), Visit(1602, mac_address(160), 1, noon, noon + HOUR)]
    first += [Visit(1603, mac_address(999), 1, noon, noon + HOUR), Visit(1604, mac_address(999), 1, noon + HOUR, None)]
    second += [VisitDeletion(1602)]
    return [first, second, third]
