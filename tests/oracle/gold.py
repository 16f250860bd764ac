"""The gold tables, each a function of silver."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

from tests.oracle.facts import MINUTE, SECOND, ProfileChange, day_of
from tests.oracle.silver import Session, SessionReading, Visit

AGE_BANDS = (
    (18, "under 18"),
    (25, "18-25"),
    (35, "25-35"),
    (45, "35-45"),
    (55, "45-55"),
    (65, "55-65"),
    (75, "65-75"),
    (85, "75-85"),
    (95, "85-95"),
)
LONGEST_SHARE = 15 * SECOND
ZONE_BOUNDS = (60, 70, 80, 90)  # per cent of the maximal heart rate, where zones 2 to 5 begin
UNKNOWN_MAXIMAL_RATE = 190


def minutes(microseconds: int) -> float:
    """Exact to two decimals, half up."""
    return float((Decimal(microseconds) / MINUTE).quantize(Decimal("0.01"), ROUND_HALF_UP))


def age_on(day: date, born: date) -> int:
    """Whole years; who was born on a leap day is a year older from 1 March."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def age_band(day: date, born: date | None) -> str:
    if born is None:
        return "unknown"
    age = age_on(day, born)
    return next((band for below, band in AGE_BANDS if age < below), "95+")


class Statistics(NamedTuple):
    lowest: float | None
    average: float | None
    highest: float | None
    readings: int


def statistics(values: Sequence[float]) -> Statistics:
    if not values:
        return Statistics(None, None, None, 0)
    exact = sum((Fraction(repr(value)) for value in values), Fraction())
    return Statistics(min(values), float(exact / len(values)), max(values), len(values))


class Trend(NamedTuple):
    device_id: int
    minute: int
    bpm: Statistics


def bpm_trends(readings: Mapping[int, Mapping[int, float]]) -> list[Trend]:
    found = []
    for device_id, values in readings.items():
        of_minute: dict[int, list[float]] = defaultdict(list)
        for read_at, bpm in values.items():
            of_minute[read_at - read_at % MINUTE].append(bpm)
        found += [Trend(device_id, minute, statistics(bpms)) for minute, bpms in of_minute.items()]
    return found


class VisitFinder:
    """In which visit a session starts: the latest login of those that cover its start."""

    def __init__(self, visits: Iterable[Visit]) -> None:
        self._of_member: dict[int, list[Visit]] = defaultdict(list)
        for visit in sorted(visits, key=lambda visit: (visit.login_at, visit.visit_id)):
            if visit.user_id is not None:
                self._of_member[visit.user_id].append(visit)

    def at(self, user_id: int, moment: int) -> Visit | None:
        logins = self._of_member.get(user_id, [])
        for visit in reversed(logins[: bisect_right(logins, moment, key=lambda visit: visit.login_at)]):
            if visit.logout_at is None or moment < visit.logout_at:
                return visit
        return None


class Summary(NamedTuple):
    session: Session
    minutes_exercising: float
    bpm: Statistics
    gym_id: int | None
    age_band: str
    profile: ProfileChange | None


def workout_summary(
    sessions: Iterable[Session],
    session_readings: Iterable[SessionReading],
    finder: VisitFinder,
    profiles: Mapping[int, ProfileChange],
) -> list[Summary]:
    bpms: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for reading in session_readings:
        bpms[reading[:3]].append(reading.bpm)
    found = []
    for session in sessions:
        if session.status != "completed":
            continue
        start, end = _start(session), _end(session)
        visit, profile = finder.at(session.user_id, start), profiles.get(session.user_id)
        found.append(
            Summary(
                session,
                minutes(end - start),
                statistics(bpms.get(session[:3], [])),
                visit.gym_id if visit else None,
                age_band(day_of(start), profile.date_of_birth if profile else None),
                profile,
            )
        )
    return found


def workout_completion(
    sessions: Iterable[Session], finder: VisitFinder, profiles: Mapping[int, ProfileChange]
) -> dict[tuple[date, int | None, str], Counter[str]]:
    """How many sessions of each status started, by day, gym and age band."""
    found: dict[tuple[date, int | None, str], Counter[str]] = defaultdict(Counter)
    for session in sessions:
        if session.started_at is None:
            continue
        visit, profile = finder.at(session.user_id, session.started_at), profiles.get(session.user_id)
        day = day_of(session.started_at)
        key = (day, visit.gym_id if visit else None, age_band(day, profile.date_of_birth if profile else None))
        found[key][session.status] += 1
    return found


class GymDay(NamedTuple):
    visits: int
    workouts: list[int]
    minutes_in_gym: float | None
    minutes_exercising: float


def gym_activity(
    visits: Iterable[Visit], sessions: Iterable[Session], finder: VisitFinder
) -> dict[tuple[date, int, int | None, str], GymDay]:
    sessions_of_visit: dict[int, list[Session]] = defaultdict(list)
    for session in sessions:
        if session.started_at is not None and (visit := finder.at(session.user_id, session.started_at)):
            sessions_of_visit[visit.visit_id].append(session)

    together: dict[tuple[date, int, int | None, str], list[Visit]] = defaultdict(list)
    for visit in visits:
        together[day_of(visit.login_at), visit.gym_id, visit.user_id, visit.mac_address].append(visit)

    found = {}
    for key, day_visits in together.items():
        held = [session for visit in day_visits for session in sessions_of_visit.get(visit.visit_id, [])]
        closed = [visit.logout_at - visit.login_at for visit in day_visits if visit.logout_at is not None]
        found[key] = GymDay(
            len(day_visits),
            sorted({session.workout_id for session in held}),
            minutes(sum(closed)) if closed else None,
            minutes(sum(_end(session) - _start(session) for session in held if session.status == "completed")),
        )
    return found


class MemberDay(NamedTuple):
    visits: int
    sessions: int
    minutes_exercising: float
    minutes_in_zone: list[float]  # zones 1 to 5
    bpm: Statistics
    streak_days: int


def user_activity(
    visits: Iterable[Visit],
    sessions: Sequence[Session],
    session_readings: Iterable[SessionReading],
    profiles: Mapping[int, ProfileChange],
) -> dict[tuple[int, date], MemberDay]:
    visit_count: Counter[tuple[int, date]] = Counter(
        (visit.user_id, day_of(visit.login_at)) for visit in visits if visit.user_id is not None
    )
    session_count: Counter[tuple[int, date]] = Counter()
    exercised: Counter[tuple[int, date]] = Counter()
    for session in sessions:
        if session.started_at is not None:
            day = session.user_id, day_of(session.started_at)
            session_count[day] += 1
            if session.status == "completed":
                exercised[day] += _end(session) - _start(session)

    bpms: dict[tuple[int, date], list[float]] = defaultdict(list)
    in_zone: dict[tuple[int, date], list[int]] = defaultdict(lambda: [0] * 5)
    starts = {session[:3]: session.started_at for session in sessions}
    for key, readings in groupby(sorted(session_readings), key=lambda reading: reading[:3]):
        profile, before = profiles.get(key[0]), starts[key]
        assert before is not None
        for reading in readings:
            day = reading.user_id, day_of(reading.read_at)
            bpms[day].append(reading.bpm)
            zone = heart_rate_zone(reading.bpm, day[1], profile.date_of_birth if profile else None)
            in_zone[day][zone - 1] += min(reading.read_at - before, LONGEST_SHARE)
            before = reading.read_at

    active = visit_count.keys() | session_count.keys()
    found = {}
    for day in active | bpms.keys():
        streak = 0
        while (day[0], day[1] - timedelta(days=streak)) in active:
            streak += 1
        found[day] = MemberDay(
            visit_count[day],
            session_count[day],
            minutes(exercised[day]),
            [minutes(share) for share in in_zone.get(day, [0] * 5)],
            statistics(bpms.get(day, [])),
            streak,
        )
    return found


def heart_rate_zone(bpm: float, day: date, born: date | None) -> int:
    """1 to 5, by the share of the maximal heart rate of that age."""
    maximal = UNKNOWN_MAXIMAL_RATE if born is None else max(220 - age_on(day, born), 1)
    return 1 + sum(100 * Fraction(repr(bpm)) >= bound * maximal for bound in ZONE_BOUNDS)


def _start(session: Session) -> int:
    assert session.started_at is not None
    return session.started_at


def _end(session: Session) -> int:
    assert session.ended_at is not None
    return session.ended_at
