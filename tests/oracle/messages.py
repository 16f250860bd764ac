"""Which messages are refused: readings, workouts and profile changes as the bytes that arrived, types taken strictly.

Reasons have the names of the closed list that `ops.quarantine` documents. Digits beyond microseconds are cut off. A
number of seconds with an exponent or more than 38 digits is a 64-bit float.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import floor
from typing import Any

from tests.oracle.facts import (
    MINUTE,
    PROFILE_FIELDS,
    SECOND,
    YEAR_2000,
    ProfileChange,
    Reading,
    Refusal,
    WorkoutEvent,
    at,
    instant,
)

LONGEST_FUTURE = 5 * MINUTE
DIGITS = 38  # before and after the point, that a decimal may have
FARTHEST_OFFSET = 18 * 60 * MINUTE
LAST_INSTANT = at("9999-12-31T23:59:59.999999")
ISO_8601 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:?\d\d)", re.IGNORECASE | re.ASCII
)


class Refused(Exception):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.refusal = Refusal(reason, detail)


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written: 1, 1.0 and 1e0 are different texts."""

    text: str


def judge_reading(value: bytes | None, arrived_at: int) -> Reading | Refusal:
    """What a message on `bpm` that arrived at `arrived_at` (microseconds) says, or why it is refused."""
    try:
        fields = _fields(value)
        device_id = _identity(fields, "device_id")
        read_at = _time(fields, "time")
        reading = _in_range(Reading(device_id, read_at, _number(fields, "heartrate")))
        if read_at > arrived_at + LONGEST_FUTURE:
            raise Refused("too_far_in_future", f"{instant(read_at)}")
        return reading
    except Refused as refused:
        return refused.refusal


def judge_workout(value: bytes | None) -> WorkoutEvent | Refusal:
    """What a message on `workout` says, or why it is refused."""
    try:
        fields = _fields(value)
        user_id, workout_id, session_id = (_identity(fields, n) for n in ("user_id", "workout_id", "session_id"))
        action = _present(fields, "action")
        if not isinstance(action, str):
            raise Refused("wrong_type", "action")
        if action not in ("start", "stop"):
            raise Refused("unknown_action", action[:80])
        return WorkoutEvent(user_id, workout_id, session_id, action, _time(fields, "timestamp"))
    except Refused as refused:
        return refused.refusal


@dataclass(frozen=True, slots=True)
class ToldChange:
    """A change of a profile as a message tells it: `place` names its position in the log of the source."""

    place: tuple[str, str, int, bool]
    change: ProfileChange


def judge_profile_change(value: bytes | None) -> ToldChange | Refusal | None:
    """What a message on `user_profile` says, or why it is refused; None: a tombstone, which says nothing."""
    if value is None:
        return None
    try:
        envelope = _fields(value)
        op = _present(envelope, "op")
        if not isinstance(op, str):
            raise Refused("wrong_type", "op")
        if op not in ("c", "u", "d", "r"):
            raise Refused("unknown_operation", op[:80])
        image = _present(envelope, "before" if op == "d" else "after")
        if not isinstance(image, dict):
            raise Refused("wrong_type", "before or after")
        user_id = _identity(image, "user_id")
        source = envelope.get("source")
        source = source if isinstance(source, dict) else {}
        place, committed_at = (*_place(source), op == "d"), _committed_at(source)
        if op == "d":  # whatever the row was, it is gone
            return ToldChange(place, ProfileChange((0, 0), op, user_id, committed_at=committed_at))
        changed_at = _changed_at(image)
        said = {"date_of_birth": _date(image, "date_of_birth")}
        said |= {name: _optional_text(image, name) for name in PROFILE_FIELDS if name != "date_of_birth"}
        return ToldChange(place, ProfileChange((0, 0), op, user_id, changed_at, committed_at, **said))
    except Refused as refused:
        return refused.refusal


def _integer(value: Any) -> int | None:
    """A JSON integer of 64 bits."""
    try:
        return _identity({"value": value}, "value")
    except Refused:
        return None


def _place(source: dict[str, Any]) -> tuple[str, str, int]:
    """PostgreSQL's lsn, a number, or SQL Server's commit_lsn, a text; within a commit the change and its event."""
    lsn, commit_lsn, change_lsn = source.get("lsn"), source.get("commit_lsn"), source.get("change_lsn")
    if lsn is None and commit_lsn is None:
        raise Refused("missing_field", "source.lsn")
    number = _integer(lsn)
    if number is None and not isinstance(commit_lsn, str):
        raise Refused("wrong_type", "source.lsn")
    commit = str(commit_lsn) if number is None else str(number)
    change = change_lsn if isinstance(change_lsn, str) else ""
    return commit, change, _integer(source.get("event_serial_no")) or 0


def _committed_at(source: dict[str, Any]) -> int:
    micros, millis = source.get("ts_us"), source.get("ts_ms")
    if micros is None and millis is None:
        raise Refused("missing_field", "source.ts_us")
    moment = _integer(micros)
    if moment is None:
        moment = _integer(millis)
        if moment is None:
            raise Refused("wrong_type", "source.ts_us")
        moment *= 1000
    if not 0 <= moment <= LAST_INSTANT:
        raise Refused("out_of_range", "source.ts_us")
    return moment


def _changed_at(image: dict[str, Any]) -> int:
    """A time as the contract has it, or an integer of microseconds, which as seconds would be ages away."""
    micros = _integer(image.get("changed_at"))
    if micros is None or micros < YEAR_2000:
        return _time(image, "changed_at")
    if micros > LAST_INSTANT:
        raise Refused("out_of_range", "changed_at")
    return micros


def _date(image: dict[str, Any], name: str) -> date | None:
    """Days since 1970 or an ISO date, of the years 1 to 9999."""
    value = image.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
                raise ValueError(value)
            return date.fromisoformat(value)
        except ValueError as error:
            raise Refused("invalid_time", name) from error
    try:
        return date(1970, 1, 1) + timedelta(days=_identity(image, name))
    except OverflowError as error:
        raise Refused("out_of_range", name) from error


def _optional_text(image: dict[str, Any], name: str) -> str | None:
    value = image.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused("wrong_type", name)
    return value


def judge_typed_reading(reading: Reading) -> Reading | Refusal:
    """The range rules alone, for a reading whose message is known to be well formed."""
    try:
        if reading.read_at < YEAR_2000:
            raise Refused("before_2000", f"{instant(reading.read_at)}")
        return _in_range(reading)
    except Refused as refused:
        return refused.refusal


def _in_range(reading: Reading) -> Reading:
    if not 20 < reading.bpm <= 250:
        raise Refused("out_of_range", str(reading.bpm))
    return reading


def _fields(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise Refused("no_value")
    try:
        text = value.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise Refused("invalid_utf8", str(error)[:200]) from error
    twice: list[str] = []

    def fields_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # half of a surrogate pair is no character: it is kept as a question mark, in names too
        names = Counter(re.sub("[\ud800-\udfff]", "?", name) for name, _ in pairs)
        twice.extend(name for name, count in names.items() if count > 1)
        return dict(pairs)

    try:
        message = json.loads(
            text,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_no_constant,
            object_pairs_hook=fields_of,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refused("malformed_json", str(error)[:200]) from error
    if twice:  # of a text that is JSON; what is broken besides is broken
        raise Refused("duplicate_key", twice[0][:80])
    if not isinstance(message, dict):
        raise Refused("not_an_object", type(message).__name__)
    return message


def _no_constant(name: str) -> Any:
    raise Refused("malformed_json", f"{name} is not JSON")


def _present(fields: dict[str, Any], name: str) -> Any:
    if fields.get(name) is None:
        raise Refused("missing_field", name)
    return fields[name]


def _identity(fields: dict[str, Any], name: str) -> int:
    value = _present(fields, name)
    if not isinstance(value, Number) or not re.fullmatch(r"-?\d+", value.text):
        raise Refused("wrong_type", name)
    if len(value.text) > 20 or not -(2**63) <= int(value.text) < 2**63:
        raise Refused("wrong_type", name)
    return int(value.text)


def _number(fields: dict[str, Any], name: str) -> float:
    value = _present(fields, name)
    if not isinstance(value, Number):
        raise Refused("wrong_type", name)
    return float(value.text)


def _time(fields: dict[str, Any], name: str) -> int:
    value = _present(fields, name)
    if isinstance(value, Number):
        moment = _epoch_seconds(value.text)
    elif isinstance(value, str):
        moment = _iso(value)
    else:
        raise Refused("wrong_type", name)
    if moment < YEAR_2000:
        raise Refused("before_2000", name)
    if moment > LAST_INSTANT:
        raise Refused("out_of_range", name)
    return moment


def _epoch_seconds(text: str) -> int:
    try:
        seconds = Decimal(text)
    except InvalidOperation as error:
        raise Refused("out_of_range", text[:80]) from error
    if "e" in text.lower() or len(seconds.as_tuple().digits) > DIGITS or -int(seconds.as_tuple().exponent) > DIGITS:
        seconds = Decimal(repr(float(text)))  # no decimal but a 64-bit float
        if not seconds.is_finite():
            raise Refused("out_of_range" if seconds > 0 else "before_2000", text[:80])
    # An exponent of a billion is a valid number that must not be expanded into digits.
    if seconds.is_zero() or seconds.adjusted() < -7:
        return 0
    if seconds.adjusted() > 12:
        raise Refused("out_of_range" if seconds > 0 else "before_2000", text[:80])
    return floor(Fraction(seconds) * SECOND)


def _iso(text: str) -> int:
    parts = ISO_8601.fullmatch(text)
    if not parts:
        raise Refused("invalid_time", text[:80])
    year, month, day, hour, minute, second, fraction, zone = parts.groups()
    year = "0004" if year == "0000" else year  # which Python does not know; a leap year too, and as long ago
    try:
        naive = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=UTC)
    except ValueError as error:
        raise Refused("invalid_time", text[:80]) from error
    moment = at(naive.isoformat())
    if fraction:
        moment += int(f"{fraction:0<6}"[:6])
    if zone.upper() != "Z":
        digits = zone[1:].replace(":", "")
        hours, minutes = int(digits[:2]), int(digits[2:])
        offset = (hours * 60 + minutes) * MINUTE
        if minutes > 59 or offset > FARTHEST_OFFSET:
            raise Refused("invalid_time", text[:80])
        moment -= offset if zone[0] == "+" else -offset
    return moment
