"""What the sources said: the oracle's input. Every time is an integer of microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def at(text: str) -> int:
    """Microseconds of an ISO time; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - EPOCH) // timedelta(microseconds=1)


def instant(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def day_of(microseconds: int) -> date:
    """The UTC day."""
    return instant(microseconds).date()


YEAR_2000 = at("2000-01-01")


@dataclass(frozen=True, slots=True)
class RegistrationVersion:
    """One version of a row of `app.registered_users`, as an extraction saw it."""

    user_id: int
    device_id: int
    mac_address: str
    registered_at: int
    row_version: int
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class VisitVersion:
    """One version of a row of `app.gym_visits`, as an extraction saw it."""

    visit_id: int
    mac_address: str | None
    gym_id: int | None
    login_at: int | None
    logout_at: int | None
    row_version: int
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """A change of `app.user_profile`. `position` is (lsn, order within it); a delete has no fields, no `changed_at`."""

    position: tuple[int, int]
    op: str  # c, u, r or d
    user_id: int
    changed_at: int | None = None
    committed_at: int | None = None  # needed for a delete only: when the source committed it
    date_of_birth: date | None = None
    sex: str | None = None
    gender: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    street_address: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None


PROFILE_FIELDS = (
    "date_of_birth",
    "sex",
    "gender",
    "first_name",
    "last_name",
    "street_address",
    "city",
    "state",
    "zip",
)


class WorkoutEvent(NamedTuple):
    user_id: int
    workout_id: int
    session_id: int
    action: str  # start or stop
    occurred_at: int


class Reading(NamedTuple):
    device_id: int
    read_at: int
    bpm: float


class Refusal(NamedTuple):
    """A message or row that no silver table may hold, and why."""

    reason: str
    detail: str


@dataclass
class World:
    """All that the sources said. `readings` are in the order of their arrival; nothing else depends on order."""

    registrations: Sequence[RegistrationVersion] = field(default_factory=list)
    visits: Sequence[VisitVersion] = field(default_factory=list)
    profile_changes: Sequence[ProfileChange] = field(default_factory=list)
    workout_events: Sequence[WorkoutEvent] = field(default_factory=list)
    readings: Sequence[Reading] = field(default_factory=list)
