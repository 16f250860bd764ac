"""The silver tables, each a function of what the sources said."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.oracle.facts import (
    HOUR,
    YEAR_2000,
    ProfileChange,
    Reading,
    Refusal,
    RegistrationVersion,
    VisitVersion,
    WorkoutEvent,
)
from tests.oracle.messages import judge_typed_reading

LONGEST_SESSION = 3 * HOUR


class Wearing(NamedTuple):
    """A period in which a member wore a device; `valid_to` None: still."""

    user_id: int
    device_id: int
    mac_address: str
    valid_from: int
    valid_to: int | None

    def covers(self, moment: int) -> bool:
        return self.valid_from <= moment and (self.valid_to is None or moment < self.valid_to)


class Visit(NamedTuple):
    visit_id: int
    user_id: int | None
    mac_address: str
    gym_id: int
    login_at: int
    logout_at: int | None


class Session(NamedTuple):
    user_id: int
    workout_id: int
    session_id: int
    started_at: int | None
    ended_at: int | None
    status: str


class SessionReading(NamedTuple):
    user_id: int
    workout_id: int
    session_id: int
    read_at: int
    bpm: float


class ProfilePeriod(NamedTuple):
    change: ProfileChange
    valid_from: int
    valid_to: int | None


def refuse_registration(version: RegistrationVersion) -> Refusal | None:
    """Why a version of a registration is refused; a deletion never is."""
    if not version.is_deleted and version.registered_at < YEAR_2000:
        return Refusal("before_2000", "registered_at")
    return None


def users(registrations: Iterable[RegistrationVersion]) -> dict[int, int]:
    """Earliest `registered_at` of every member whose latest version is not a deletion."""
    latest: dict[int, RegistrationVersion] = {}
    earliest: dict[int, int] = {}
    for version in registrations:
        if refuse_registration(version):
            continue
        if version.user_id not in latest or latest[version.user_id].row_version <= version.row_version:
            latest[version.user_id] = version
        if not version.is_deleted:
            earliest[version.user_id] = min(version.registered_at, earliest.get(version.user_id, version.registered_at))
    return {user_id: earliest[user_id] for user_id, version in latest.items() if not version.is_deleted}


def wearings(registrations: Iterable[RegistrationVersion]) -> list[Wearing]:
    """Who wore what when.

    A version that a later one of the same `registered_at` replaced never was; one that repeats what the member wears
    already is no new registration, neither for the member nor for somebody who has taken over the device meanwhile.
    """
    last_word: dict[tuple[int, int], RegistrationVersion] = {}
    for version in registrations:
        place = (version.user_id, version.registered_at)
        if version.is_deleted or refuse_registration(version):
            continue
        if place not in last_word or last_word[place].row_version <= version.row_version:
            last_word[place] = version

    of_member: dict[int, list[RegistrationVersion]] = defaultdict(list)
    said_last: dict[int, int] = {}  # of a device, the member who registered it last
    for version in sorted(last_word.values(), key=_registration_order):
        before = of_member[version.user_id][-1:]
        is_same = [(b.device_id, b.mac_address) for b in before] == [(version.device_id, version.mac_address)]
        if not is_same or said_last[version.device_id] != version.user_id:
            of_member[version.user_id].append(version)
        said_last[version.device_id] = version.user_id
    of_device: dict[int, list[RegistrationVersion]] = defaultdict(list)
    for begins in of_member.values():
        for begin in begins:
            of_device[begin.device_id].append(begin)

    found = []
    for user_id, begins in of_member.items():
        for begin, following in zip(begins, [*begins[1:], None], strict=True):
            ends = [following.registered_at] if following else []
            ends += [
                other.registered_at
                for other in of_device[begin.device_id]
                if other.user_id != user_id and _registration_order(other) > _registration_order(begin)
            ]
            valid_to = min(ends, default=None)
            if valid_to is None or valid_to > begin.registered_at:
                found.append(Wearing(user_id, begin.device_id, begin.mac_address, begin.registered_at, valid_to))
    return found


def _registration_order(version: RegistrationVersion) -> tuple[int, int, int]:
    return version.registered_at, version.row_version, version.user_id


def _in_source_order(changes: Iterable[ProfileChange]) -> list[ProfileChange]:
    """A key change is a delete and a create at one position of the log: the delete comes first."""
    return sorted(changes, key=lambda change: (change.position[0], change.op != "d", change.position[1]))


def profiles(changes: Iterable[ProfileChange]) -> dict[int, ProfileChange]:
    """The profile of every member now."""
    last = {change.user_id: change for change in _in_source_order(changes)}
    return {user_id: change for user_id, change in last.items() if change.op != "d"}


def profile_history(changes: Iterable[ProfileChange]) -> list[ProfilePeriod]:
    of_member: dict[int, list[ProfileChange]] = defaultdict(list)
    for change in _in_source_order(changes):
        of_member[change.user_id].append(change)

    found = []
    for member_changes in of_member.values():
        clock, steps = 0, []
        for change in member_changes:
            moment = change.committed_at if change.op == "d" else change.changed_at
            if moment is None:
                raise ValueError(f"no time in {change}")
            clock = max(clock, moment)
            steps.append((clock, change))
        for (valid_from, change), after in zip(steps, [*steps[1:], None], strict=True):
            valid_to = after[0] if after else None
            if change.op != "d" and valid_to != valid_from:
                found.append(ProfilePeriod(change, valid_from, valid_to))
    return found


def refuse_visit(version: VisitVersion) -> Refusal | None:
    """Why a version of a visit is refused; a deletion never is."""
    if version.is_deleted:
        return None
    for name in ("mac_address", "gym_id", "login_at"):
        if getattr(version, name) is None:
            return Refusal("missing_field", name)
    if version.login_at is not None and version.login_at < YEAR_2000:
        return Refusal("before_2000", "login_at")
    if version.logout_at is not None and version.login_at is not None and version.logout_at < version.login_at:
        return Refusal("ends_before_start", "")
    return None


def visits(versions: Iterable[VisitVersion], worn: Iterable[Wearing]) -> list[Visit]:
    """The latest accepted version of every visit, with the member who wore the address at login.

    Should two members wear devices with one address, it is whose period began last.
    """
    latest: dict[int, VisitVersion] = {}
    for version in versions:
        if refuse_visit(version):
            continue
        if version.visit_id not in latest or latest[version.visit_id].row_version <= version.row_version:
            latest[version.visit_id] = version
    of_address: dict[str, list[Wearing]] = defaultdict(list)
    for wearing in worn:
        of_address[wearing.mac_address].append(wearing)

    found = []
    for version in latest.values():
        if version.is_deleted:
            continue
        assert version.mac_address is not None and version.gym_id is not None and version.login_at is not None
        wearers = [(w.valid_from, w.user_id) for w in of_address[version.mac_address] if w.covers(version.login_at)]
        found.append(
            Visit(
                version.visit_id,
                max(wearers)[1] if wearers else None,
                version.mac_address,
                version.gym_id,
                version.login_at,
                version.logout_at,
            )
        )
    return found


def sessions(events: Iterable[WorkoutEvent], now: int) -> list[Session]:
    starts: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    stops: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for event in events:
        (starts if event.action == "start" else stops)[event[:3]].append(event.occurred_at)

    found = []
    for key in starts.keys() | stops.keys():
        if key not in starts:
            found.append(Session(*key, None, min(stops[key]), "stop_only"))
            continue
        start = min(starts[key])
        end = min((stop for stop in stops.get(key, ()) if start <= stop <= start + LONGEST_SESSION), default=None)
        if end is not None:
            found.append(Session(*key, start, end, "completed"))
        else:
            found.append(Session(*key, start, None, "abandoned" if now > start + LONGEST_SESSION else "open"))
    return found


class HeartRate(NamedTuple):
    """Accepted readings as `accepted[device_id][read_at] = bpm`, how many came again, and which were refused."""

    accepted: dict[int, dict[int, float]]
    duplicates: int
    refused: list[tuple[Reading, Refusal]]


def heart_rate(readings: Iterable[Reading]) -> HeartRate:
    """Of two values for one instant of a device the first to arrive stays."""
    accepted: dict[int, dict[int, float]] = defaultdict(dict)
    duplicates, refused = 0, []
    for reading in readings:
        judged = judge_typed_reading(reading)
        if isinstance(judged, Refusal):
            refused.append((reading, judged))
            continue
        of_device = accepted[reading.device_id]
        first = of_device.get(reading.read_at)
        if first is None:
            of_device[reading.read_at] = reading.bpm
        elif first == reading.bpm:
            duplicates += 1
        else:
            refused.append((reading, Refusal("conflicting_reading", f"{first} came first")))
    return HeartRate(dict(accepted), duplicates, refused)


def session_readings(
    completed: Iterable[Session], worn: Iterable[Wearing], readings: dict[int, dict[int, float]]
) -> list[SessionReading]:
    """Readings of the member's device of that time, after the start, up to and including the end."""
    of_member: dict[int, list[Wearing]] = defaultdict(list)
    for wearing in worn:
        of_member[wearing.user_id].append(wearing)
    instants: dict[int, Sequence[int]] = {device: sorted(values) for device, values in readings.items()}

    found = []
    for session in completed:
        if session.status != "completed":
            continue
        assert session.started_at is not None and session.ended_at is not None
        for wearing in of_member[session.user_id]:
            times = instants.get(wearing.device_id, [])
            for read_at in times[bisect_right(times, session.started_at) : bisect_right(times, session.ended_at)]:
                if wearing.covers(read_at):
                    found.append(SessionReading(*session[:3], read_at, readings[wearing.device_id][read_at]))
    return found
