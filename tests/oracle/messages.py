"""Which messages are refused: readings and workouts as the bytes that arrived, types taken strictly.

Reasons have the names of the closed list that `ops.quarantine` documents. Digits beyond microseconds are cut off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from tests.oracle.facts import MINUTE, SECOND, YEAR_2000, Reading, Refusal, WorkoutEvent, at, instant

LONGEST_FUTURE = 5 * MINUTE
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
    try:
        message = json.loads(
            text,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refused("malformed_json", str(error)[:200]) from error
    if not isinstance(message, dict):
        raise Refused("not_an_object", type(message).__name__)
    return message


def _no_constant(name: str) -> Any:
    raise Refused("malformed_json", f"{name} is not JSON")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise Refused("duplicate_key", name[:80])
        fields[name] = value
    return fields


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
    # An exponent of a billion is a valid number that must not be expanded into digits.
    if seconds.is_zero() or seconds.adjusted() < -7:
        return 0
    if seconds.adjusted() > 12:
        raise Refused("out_of_range" if seconds > 0 else "before_2000", text[:80])
    return int((seconds * SECOND).quantize(Decimal(1), ROUND_FLOOR))


def _iso(text: str) -> int:
    parts = ISO_8601.fullmatch(text)
    if not parts:
        raise Refused("invalid_time", text[:80])
    year, month, day, hour, minute, second, fraction, zone = parts.groups()
    try:
        naive = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=UTC)
    except ValueError as error:
        raise Refused("invalid_time", text[:80]) from error
    moment = at(naive.isoformat())
    if fraction:
        moment += int((Decimal(f"0.{fraction}") * SECOND).quantize(Decimal(1), ROUND_FLOOR))
    if zone.upper() != "Z":
        digits = zone[1:].replace(":", "")
        hours, minutes = int(digits[:2]), int(digits[2:])
        if hours > 18 or minutes > 59:
            raise Refused("invalid_time", text[:80])
        offset = (hours * 60 + minutes) * MINUTE
        moment -= offset if zone[0] == "+" else -offset
    return moment
