"""What can happen at the sources. Every time is an integer of microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def instant(moment: int) -> datetime:
    return EPOCH + timedelta(microseconds=moment)


@dataclass(frozen=True, slots=True)
class Registration:
    """A member registers, or registers another device: the row of the member is inserted or overwritten."""

    user_id: int
    device_id: int
    mac_address: str
    registered_at: int


@dataclass(frozen=True, slots=True)
class Deregistration:
    user_id: int


@dataclass(frozen=True, slots=True)
class Profile:
    """A member's profile is entered or changed."""

    user_id: int
    date_of_birth: date | None
    sex: str | None
    gender: str | None
    first_name: str | None
    last_name: str | None
    street_address: str | None
    city: str | None
    state: str | None
    zip: str | None
    changed_at: int


@dataclass(frozen=True, slots=True)
class ProfileMove:
    """The key of a profile changes: to those who read the log a delete and a create at one position."""

    user_id: int
    new_user_id: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class ProfileDeletion:
    user_id: int


@dataclass(frozen=True, slots=True)
class Visit:
    """A member enters a gym (`logout_at` None), leaves it, or the logout is corrected."""

    visit_id: int
    mac_address: str
    gym_id: int
    login_at: int
    logout_at: int | None


@dataclass(frozen=True, slots=True)
class VisitDeletion:
    visit_id: int


@dataclass(frozen=True, slots=True)
class Workout:
    """A member starts or stops a session of a workout."""

    user_id: int
    workout_id: int
    session_id: int
    action: str
    occurred_at: int


class Message(NamedTuple):
    """Bytes that somebody produces straight onto a topic: rubbish, as a rule."""

    topic: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Heart rates of one device in the order in which it sends them: microseconds (int64), beats a minute (float64)."""

    device_id: int
    read_at: np.ndarray
    bpm: np.ndarray


RowFact = Registration | Deregistration | Profile | ProfileMove | ProfileDeletion | Visit | VisitDeletion | Workout
Fact = RowFact | Message | Readings
