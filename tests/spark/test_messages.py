"""Messages read strictly: what is accepted, with which values, and why the rest is refused. One Spark job a topic."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_jobs.messages import parse_profile_changes, parse_readings, parse_workouts
from spark_jobs.quarantine import Reason
from tests.oracle.facts import Reading, Refusal, WorkoutEvent, instant
from tests.oracle.messages import judge_reading, judge_workout

ARRIVED = datetime(2024, 3, 2, 12, tzinfo=UTC)
ARRIVED_MICROS = int(ARRIVED.timestamp()) * 1_000_000


def judged(
    spark: SparkSession, parse: Callable[[DataFrame], DataFrame], values: dict[str, bytes | None]
) -> dict[str, Any]:
    rows = [("t", 0, number, ARRIVED, None, value) for number, value in enumerate(values.values())]
    schema = "topic STRING, partition INT, offset BIGINT, kafka_timestamp TIMESTAMP, key BINARY, value BINARY"
    found = parse(spark.createDataFrame(rows, schema)).toArrow().to_pylist()
    assert len(found) == len(rows), "a record vanished or was doubled"
    by_offset = {row["offset"]: row for row in found}
    return {name: by_offset[number] for number, name in enumerate(values)}


def reading(time: str = "1575158400", heartrate: str = "66.62", device_id: str = "119715", more: str = "") -> bytes:
    return f'{{"device_id":{device_id},"time":{time},"heartrate":{heartrate}{more}}}'.encode()


ODD_DOCUMENTS: dict[str, bytes | None] = {
    "no-value": None,
    "empty": b"",
    "blank": b"  \n",
    "nul-byte": b"\x00",
    "nul-byte-inside": reading()[:-1] + b"\x00}",
    "invalid-utf8": b'{"device_id":"\xff"}',
    "truncated-utf8": reading(more=',"x":"\u00e9"')[:-3],
    "utf16": reading().decode().encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf" + reading(),
    "truncated": reading()[:-1],
    "trailing-text": reading() + b" x",
    "trailing-brace": reading() + b"}",
    "two-objects": reading() + reading(),
    "two-objects-with-comma": reading() + b"," + reading(),
    "closes-a-list": reading() + b"]",
    "closes-a-list-and-goes-on": reading() + b"],[1",
    "comment": b"/* x */" + reading(),
    "single-quotes": b"{'device_id':1}",
    "unquoted-name": b"{device_id:1}",
    "trailing-comma": reading()[:-1] + b",}",
    "array": b"[1,2]",
    "array-with-duplicate-key": b'[{"a":1,"a":1}]',
    "duplicate-key-and-not-closed": b'{"a":1,"a":1',
    "duplicate-key-and-trailing-brace": b'{"a":1,"a":1}}',
    "duplicate-key-by-escape": reading(more=',"device\\u005fid":1'),
    "number": b"1",
    "text": b'"device_id"',
    "null": b"null",
    "true": b"true",
    "empty-object": b"{}",
    "duplicate-key": reading(more=',"device_id":1'),
    "duplicate-key-with-the-same-value": reading(more=',"device_id":119715'),
    "duplicate-key-deep-inside": reading(more=',"x":{"y":[{"a":1,"a":1}]}'),
    "names-of-half-characters": reading(more=',"\\ud800":1,"\\udc00\\uD801":{"\\uDFFF":1}'),
    "names-of-half-characters-that-are-one": reading(more=',"\\ud800":1,"\\ud801":2'),
    "name-of-half-a-character-and-a-question-mark": reading(more=',"x":[{"?":0,"\\ud800":0}]'),
    "names-of-halves-without-their-others": reading(more=',"\\ud83d\\udc00\\udc00":1,"\\ud83d\\udc00?":2'),
    "names-that-spell-half-characters": reading(more=',"\\\\ud800":1,"\\\\ud801":2'),
    "name-of-a-backslash-and-half-a-character": reading(more=',"\\\\\\ud800":1,"\\\\?":2'),
    "half-a-character-spelled-wrong": reading(more=',"\\UD800":1'),
    "many-names-in-a-list": reading(more=',"x":[' + ",".join(f'{{"k{n}":0}}' for n in range(20_000)) + "]"),
    "many-names-in-the-value": reading(heartrate="[" + ",".join(f'{{"k{n}":0}}' for n in range(20_000)) + "]"),
    "list-as-deep-as-can-be": reading(more=',"x":' + "[" * 990 + "]" * 990),
    "object-as-deep-as-can-be": reading(more=',"x":' + '{"x":' * 990 + "1" + "}" * 990),
    "value-as-deep-as-can-be": reading(heartrate='{"x":' * 990 + "1" + "}" * 990),
    "deep-list": b"[" * 5000 + b"]" * 5000,
    "deep-object": b'{"x":' * 5000 + b"1" + b"}" * 5000,
    "not-closed-and-deep": b"[" * 100_000,
    "sql": b"'; DROP TABLE silver.heart_rate; --",
    "path": b"../../etc/passwd",
}
READINGS: dict[str, bytes | None] = ODD_DOCUMENTS | {
    "plain": reading(),
    "whitespace": b' {\n"device_id" : 1 ,"time": 1575158400,"heartrate":\t66} \r\n',
    "unknown-field": reading(more=',"firmware":{"version":[1,2,null]}'),
    "unknown-field-with-a-dot": reading(more=',"device_id.x":7'),
    "huge-text": reading(more=f',"x":"{"x" * 2_000_000}"'),
    "emoji": reading(more=',"x":"\U0001f3c3"'),
    "integer-bpm": reading(heartrate="66"),
    "exponent-bpm": reading(heartrate="6.662e1"),
    "many-digits": reading(heartrate="66.123456789012345678901234567890123456789012345"),
    "bpm-20": reading(heartrate="20"),
    "bpm-just-above-20": reading(heartrate="20.000001"),
    "bpm-250": reading(heartrate="250"),
    "bpm-above-250": reading(heartrate="250.0000001"),
    "bpm-negative": reading(heartrate="-66"),
    "bpm-infinite-by-exponent": reading(heartrate="1e400"),
    "bpm-nan": reading(heartrate="NaN"),
    "bpm-infinity": reading(heartrate="Infinity"),
    "bpm-text": reading(heartrate='"66.62"'),
    "bpm-boolean": reading(heartrate="true"),
    "bpm-null": reading(heartrate="null"),
    "bpm-list": reading(heartrate="[66]"),
    "bpm-missing": b'{"device_id":1,"time":1575158400}',
    "id-text": reading(device_id='"1"'),
    "id-decimal": reading(device_id="1.0"),
    "id-exponent": reading(device_id="1e3"),
    "id-boolean": reading(device_id="true"),
    "id-null": reading(device_id="null"),
    "id-object": reading(device_id="{}"),
    "id-zero": reading(device_id="0"),
    "id-minus-zero": reading(device_id="-0"),
    "id-leading-zero": reading(device_id="01"),
    "id-plus": reading(device_id="+1"),
    "id-negative": reading(device_id="-5"),
    "id-greatest": reading(device_id="9223372036854775807"),
    "id-least": reading(device_id="-9223372036854775808"),
    "id-beyond-64-bits": reading(device_id="9223372036854775808"),
    "id-beyond-128-bits": reading(device_id="9" * 60),
    "id-of-3000-digits": reading(device_id="9" * 3000),
    "name-in-capitals": b'{"Device_Id":1,"time":1575158400,"heartrate":66}',
    "time-fraction": reading(time="1678521900.123456"),
    "time-many-digits": reading(time="1678521900.1234569"),
    "time-no-float-has-it": reading(time="1678521900.000001"),
    "time-exponent": reading(time="1.5751584e9"),
    "time-exponent-many-digits": reading(time="1.7000000001234559999e9"),
    "time-exponent-moves-the-point": reading(time="170000000.01234559999999e1"),
    "time-exponent-just-before-2000-by-less-than-a-float-holds": reading(time="946684799.9999999999999999e0"),
    "time-20-digits-after-the-point": reading(time="1700000012.12345599999999999999"),
    "time-50-digits-after-the-point": reading(time=f"1700000012.123455{'9' * 44}"),
    "time-just-before-2000-by-19-digits": reading(time="946684799.9999999999999999999"),
    "time-2000": reading(time="946684800"),
    "time-just-before-2000": reading(time="946684799.999999"),
    "time-just-before-2000-by-less-than-a-microsecond": reading(time="946684799.9999999"),
    "time-zero": reading(time="0"),
    "time-negative": reading(time="-1"),
    "time-far-below": reading(time="-1e400"),
    "time-far-above": reading(time="1e400"),
    "time-greatest-integer": reading(time="9223372036854775807"),
    "time-least-integer": reading(time="-9223372036854775808"),
    "time-year-10000": reading(time="253402300800"),
    "time-milliseconds": reading(time="1575158400000"),
    "time-text": reading(time='"2019-12-01T00:00:00Z"'),
    "time-text-offset": reading(time='"2019-12-01T01:30:00.5+01:30"'),
    "time-text-offset-without-colon": reading(time='"2019-12-01T01:30:00+0130"'),
    "time-text-small-letters": reading(time='"2019-12-01t00:00:00z"'),
    "time-text-blank-between": reading(time='"2019-12-01 00:00:00Z"'),
    "time-text-nanoseconds": reading(time='"2019-12-01T00:00:00.123456789Z"'),
    "time-text-minutes-only": reading(time='"2019-12-01T00:00Z"'),
    "time-text-without-offset": reading(time='"2019-12-01T00:00:00"'),
    "time-text-of-a-number": reading(time='"1575158400"'),
    "time-text-date": reading(time='"2019-12-01"'),
    "time-text-zone-name": reading(time='"2019-12-01T00:00:00 Europe/Berlin"'),
    "time-text-no-such-day": reading(time='"2019-02-29T00:00:00Z"'),
    "time-text-leap-day": reading(time='"2020-02-29T00:00:00Z"'),
    "time-text-leap-second": reading(time='"2016-12-31T23:59:60Z"'),
    "time-text-hour-24": reading(time='"2019-12-01T24:00:00Z"'),
    "time-text-before-2000-by-offset": reading(time='"2000-01-01T00:30:00+01:00"'),
    "time-text-empty": reading(time='""'),
    "time-text-line-break-after": reading(time='"2019-12-01T00:00:00Z\\n"'),
    "time-text-year-0": reading(time='"0000-02-29T00:00:00Z"'),
    "time-text-many-digits": reading(time=f'"2019-12-01T00:00:00.{"9" * 40}Z"'),
    "time-boolean": reading(time="false"),
    "time-null": reading(time="null"),
    "time-list": reading(time="[1575158400]"),
    "time-five-minutes-ahead": reading(time=str(ARRIVED_MICROS // 1_000_000 + 300)),
    "time-more-than-five-minutes-ahead": reading(time=f"{ARRIVED_MICROS // 1_000_000 + 300}.000001"),
}


# Spark's JSON reader gives up on a number of more than 1,000 digits before it can be judged.
UNREAD = {"id-of-3000-digits": Refusal("malformed_json", "value")}


@pytest.fixture(scope="module")
def readings(spark: SparkSession) -> dict[str, Any]:
    return judged(spark, parse_readings, READINGS)


@pytest.mark.parametrize("case", READINGS)
def test_a_reading_is_judged_as_the_rules_say(readings: dict[str, Any], case: str) -> None:
    expected, found = UNREAD.get(case) or judge_reading(READINGS[case], ARRIVED_MICROS), readings[case]
    if isinstance(expected, Refusal):
        assert found["reason"] == expected.reason, found["detail"]
    else:
        assert (found["reason"], found["detail"]) == (None, None)
        assert Reading(found["device_id"], *_micros(found["read_at"]), found["bpm"]) == expected


def workout(**fields: object) -> bytes:
    event = {"user_id": 12474, "workout_id": 1, "session_id": 1, "action": "start", "timestamp": 1678521900.0}
    return json.dumps({name: value for name, value in (event | fields).items() if value is not ...}).encode()


WORKOUTS: dict[str, bytes | None] = ODD_DOCUMENTS | {
    "start": workout(),
    "stop": workout(action="stop"),
    "unknown-action": workout(action="pause"),
    "action-in-capitals": workout(action="START"),
    "action-with-blank": workout(action="start "),
    "action-number": workout(action=1),
    "action-null": workout(action=None),
    "action-missing": workout(action=...),
    "user-missing": workout(user_id=...),
    "workout-text": workout(workout_id="1"),
    "session-boolean": workout(session_id=True),
    "session-decimal": workout(session_id=1.5),
    "timestamp-missing": workout(timestamp=...),
    "timestamp-before-2000": workout(timestamp=0),
    "timestamp-years-ahead": workout(timestamp=4102444800),
    "extra-field": workout(note="'; DROP TABLE x; --"),
    "no-field-right": workout(user_id="x", workout_id="x", session_id="x", action="x", timestamp="x"),
}


@pytest.fixture(scope="module")
def workouts(spark: SparkSession) -> dict[str, Any]:
    return judged(spark, parse_workouts, WORKOUTS)


@pytest.mark.parametrize("case", WORKOUTS)
def test_a_workout_event_is_judged_as_the_rules_say(workouts: dict[str, Any], case: str) -> None:
    expected, found = judge_workout(WORKOUTS[case]), workouts[case]
    if isinstance(expected, Refusal):
        assert found["reason"] == expected.reason, found["detail"]
    else:
        assert found["reason"] is None, found["detail"]
        ids = (found["user_id"], found["workout_id"], found["session_id"])
        assert WorkoutEvent(*ids, found["action"], *_micros(found["occurred_at"])) == expected


BEFORE_OR_AFTER = {"user_id": 7, "date_of_birth": 5478, "city": "Utrecht", "changed_at": "2023-03-11T08:05:00.123456Z"}
POSTGRESQL = {"connector": "postgresql", "lsn": 26871248, "ts_ms": 1678521900123, "ts_us": 1678521900123456}
SQL_SERVER = {
    "connector": "sqlserver",
    "commit_lsn": "00000027:00000ac0:0002",
    "change_lsn": "00000027:00000ac0:0001",
    "event_serial_no": 1,
    "ts_ms": 1678521900123,
}


def change(op: object = "c", source: dict[str, object] | None = None, **fields: object) -> bytes:
    image = {name: value for name, value in (BEFORE_OR_AFTER | fields).items() if value is not ...}
    halves = {"before": image, "after": None} if op == "d" else {"before": None, "after": image}
    return json.dumps({"op": op, **halves, "source": POSTGRESQL if source is None else source, "ts_ms": 1}).encode()


ACCEPTED_CHANGES: dict[str, tuple[bytes, dict[str, object]]] = {
    "create": (
        change(),
        {
            "user_id": 7,
            "op": "c",
            "date_of_birth": date(1984, 12, 31),
            "city": "Utrecht",
            "zip": None,
            "changed_at": datetime(2023, 3, 11, 8, 5, 0, 123456, UTC),
            "committed_at": datetime(2023, 3, 11, 8, 5, 0, 123456, UTC),
        },
    ),
    "snapshot": (change("r"), {"op": "r"}),
    "update": (change("u"), {"op": "u"}),
    "delete-without-times-and-fields": (change("d", changed_at=..., city=...), {"op": "d", "user_id": 7}),
    "date-as-text": (change(date_of_birth="2004-02-29"), {"date_of_birth": date(2004, 2, 29)}),
    "date-unknown": (change(date_of_birth=None), {"date_of_birth": None}),
    "date-missing": (change(date_of_birth=...), {"date_of_birth": None}),
    "date-before-1970": (change(date_of_birth=-1), {"date_of_birth": date(1969, 12, 31)}),
    "time-in-microseconds": (
        change(changed_at=1678521900123456),
        {"changed_at": datetime(2023, 3, 11, 8, 5, 0, 123456, UTC)},
    ),
    "commit-in-milliseconds": (
        change("d", source={"lsn": 1, "ts_ms": 1678521900123}),
        {"committed_at": datetime(2023, 3, 11, 8, 5, 0, 123000, UTC)},
    ),
    "sql-server": (change(source=SQL_SERVER), {"user_id": 7, "op": "c"}),
    "hostile-text": (change(city="'; DROP TABLE x; --\u0000"), {"city": "'; DROP TABLE x; --\u0000"}),
    "unknown-field": (change(loyalty="gold"), {"user_id": 7}),
}
REFUSED_CHANGES: dict[str, tuple[bytes, Reason]] = {
    "truncate": (change("t"), Reason.UNKNOWN_OPERATION),
    "operation-missing": (b'{"after":{"user_id":1}}', Reason.MISSING_FIELD),
    "operation-number": (change(1), Reason.WRONG_TYPE),
    "after-missing": (b'{"op":"c","source":{"lsn":1,"ts_ms":1}}', Reason.MISSING_FIELD),
    "after-no-object": (b'{"op":"c","after":[1],"source":{"lsn":1,"ts_ms":1}}', Reason.WRONG_TYPE),
    "user-missing": (change(user_id=...), Reason.MISSING_FIELD),
    "user-text": (change(user_id="7"), Reason.WRONG_TYPE),
    "source-missing": (b'{"op":"c","after":{"user_id":1,"changed_at":"2023-03-11T08:05:00Z"}}', Reason.MISSING_FIELD),
    "lsn-text": (change(source={"lsn": "1", "ts_ms": 1}), Reason.WRONG_TYPE),
    "commit-time-missing": (change("d", source={"lsn": 1}), Reason.MISSING_FIELD),
    "commit-time-text": (change("d", source={"lsn": 1, "ts_ms": "x"}), Reason.WRONG_TYPE),
    "commit-time-absurd": (change("d", source={"lsn": 1, "ts_ms": 2**62}), Reason.OUT_OF_RANGE),
    "changed-at-missing": (change(changed_at=...), Reason.MISSING_FIELD),
    "changed-at-before-2000": (change(changed_at="1999-12-31T23:59:59Z"), Reason.BEFORE_2000),
    "changed-at-no-time": (change(changed_at="yesterday"), Reason.INVALID_TIME),
    "date-boolean": (change(date_of_birth=True), Reason.WRONG_TYPE),
    "date-no-such-day": (change(date_of_birth="2003-02-29"), Reason.INVALID_TIME),
    "date-year-0": (change(date_of_birth="0000-01-01"), Reason.INVALID_TIME),
    "date-line-break-after": (change(date_of_birth="2004-02-29\n"), Reason.INVALID_TIME),
    "date-absurd": (change(date_of_birth=2**40), Reason.OUT_OF_RANGE),
    "city-number": (change(city=7), Reason.WRONG_TYPE),
    "zip-object": (change(zip={"x": 1}), Reason.WRONG_TYPE),
}
DOCUMENT_REASONS = {"invalid-utf8": Reason.INVALID_UTF8, "array": Reason.NOT_AN_OBJECT, "empty": Reason.MALFORMED_JSON}


@pytest.fixture(scope="module")
def changes(spark: SparkSession) -> dict[str, Any]:
    cases = {case: value for case, (value, _) in (ACCEPTED_CHANGES | REFUSED_CHANGES).items()}
    return judged(spark, parse_profile_changes, ODD_DOCUMENTS | cases)


@pytest.mark.parametrize("case", ACCEPTED_CHANGES)
def test_a_profile_change_is_read(changes: dict[str, Any], case: str) -> None:
    found, (_, expected) = changes[case], ACCEPTED_CHANGES[case]
    assert found["reason"] is None, found["detail"]
    assert found["position"] is not None and not found["is_tombstone"]
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("case", REFUSED_CHANGES)
def test_a_profile_change_is_refused(changes: dict[str, Any], case: str) -> None:
    assert changes[case]["reason"] == REFUSED_CHANGES[case][1], changes[case]["detail"]


@pytest.mark.parametrize("case", DOCUMENT_REASONS)
def test_a_profile_change_must_be_an_object(changes: dict[str, Any], case: str) -> None:
    assert changes[case]["reason"] == DOCUMENT_REASONS[case]


def test_a_tombstone_of_a_profile_is_no_fault(changes: dict[str, Any]) -> None:
    assert changes["no-value"]["is_tombstone"] and changes["no-value"]["reason"] is None


def test_profile_changes_are_in_the_order_of_their_source(spark: SparkSession) -> None:
    lsn = {number: POSTGRESQL | {"lsn": number} for number in (9, 10, 2**40)}
    told = [change("c", lsn[9]), change("d", lsn[10]), change("c", lsn[10]), change("u", lsn[2**40])]
    found = judged(spark, parse_profile_changes, dict(zip("abcd", told, strict=True)))
    positions = [found[case]["position"] for case in "abcd"]
    assert positions == sorted(positions) and len(set(positions)) == 4


def test_profile_changes_of_sql_server_are_in_the_order_of_commit_change_and_event(spark: SparkSession) -> None:
    steps: list[dict[str, object]] = [
        {"commit_lsn": "00000027:00000ac0:0002", "change_lsn": None},
        {},
        {"event_serial_no": 2},
        {"event_serial_no": 10},
        {"change_lsn": "00000027:00000ac0:0003"},
        {"commit_lsn": "00000028:00000000:0001"},
    ]
    told = {str(number): change("u", SQL_SERVER | step) for number, step in enumerate(steps)}
    positions = [row["position"] for row in judged(spark, parse_profile_changes, told).values()]
    assert positions == sorted(positions) and len(set(positions)) == len(steps)


def _micros(moment: datetime) -> tuple[int]:
    return ((moment - instant(0)) // timedelta(microseconds=1),)
