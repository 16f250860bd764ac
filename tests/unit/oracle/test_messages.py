from __future__ import annotations

from datetime import date

import pytest

from tests.oracle import ProfileChange, Reading, WorkoutEvent, at
from tests.oracle.facts import Refusal
from tests.oracle.messages import ToldChange, judge_profile_change, judge_reading, judge_workout

NOW = at("2024-06-01T12:00:00")


def reading_text(time: str) -> bytes:
    return f'{{"device_id":1,"time":{time},"heartrate":60}}'.encode()


@pytest.mark.parametrize(
    ("value", "reading"),
    [
        pytest.param(
            b'{"device_id":119715,"time":1575158400,"heartrate":66.62}',
            Reading(119715, at("2019-12-01"), 66.62),
            id="the contract's example",
        ),
        pytest.param(
            b' {"heartrate" : 70, "x": {"a": [1]}, "time": "2024-06-01T13:30:00.25+02:00", "device_id": 1}\n',
            Reading(1, at("2024-06-01T11:30:00.250000"), 70.0),
            id="iso time with offset, unknown field, white space",
        ),
        pytest.param(
            b'{"device_id":-9223372036854775808,"time":1717243200.123456,"heartrate":2.5e2}',
            Reading(-(2**63), at("2024-06-01T12:00:00.123456"), 250.0),
            id="smallest id, exact fraction, highest bpm",
        ),
        pytest.param(
            b'{"device_id":1,"time":1717243199.1234569,"heartrate":60}',
            Reading(1, at("2024-06-01T11:59:59.123456"), 60.0),
            id="digits beyond microseconds",
        ),
        pytest.param(
            reading_text(f'"2024-06-01T11:59:59.{"9" * 40}Z"'),
            Reading(1, at("2024-06-01T11:59:59.999999"), 60.0),
            id="more digits than a decimal keeps",
        ),
        pytest.param(
            reading_text(f"1717243199.{'9' * 40}"),
            Reading(1, at("2024-06-01T12:00:00"), 60.0),  # the nearest 64-bit float
            id="more digits of a number than a decimal keeps",
        ),
        pytest.param(
            b'{"device_id":1,"time":1717243500,"heartrate":20.01}',
            Reading(1, at("2024-06-01T12:05:00"), 20.01),
            id="five minutes in the future",
        ),
        pytest.param(
            b'{"device_id":1,"time":946684800,"heartrate":60}',
            Reading(1, at("2000-01-01"), 60.0),
            id="first instant of 2000",
        ),
    ],
)
def test_reading_is_accepted(value: bytes, reading: Reading) -> None:
    assert judge_reading(value, NOW) == reading


def reading_of(device_id: str = "1", time: str = "1717243200", heartrate: str = "60") -> bytes:
    return f'{{"device_id":{device_id},"time":{time},"heartrate":{heartrate}}}'.encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(None, "no_value", id="tombstone"),
        pytest.param(b"", "malformed_json", id="no bytes"),
        pytest.param(b"\xff\xfe{", "invalid_utf8", id="not utf-8"),
        pytest.param(reading_of().decode().encode("utf-16"), "invalid_utf8", id="utf-16"),
        pytest.param(b"[" * 100_000, "malformed_json", id="nested without end"),
        pytest.param(b"[1]", "not_an_object", id="array"),
        pytest.param(b"null", "not_an_object", id="null"),
        pytest.param(reading_of() + b"x", "malformed_json", id="something behind it"),
        pytest.param(b'{"device_id":1,"time":1717243200}', "missing_field", id="no heartrate"),
        pytest.param(reading_of(heartrate="null"), "missing_field", id="null heartrate"),
        pytest.param(reading_of(heartrate='"60"'), "wrong_type", id="number in quotes"),
        pytest.param(reading_of(heartrate="true"), "wrong_type", id="boolean heartrate"),
        pytest.param(reading_of(heartrate="NaN"), "malformed_json", id="NaN"),
        pytest.param(reading_of(heartrate="-Infinity"), "malformed_json", id="Infinity"),
        pytest.param(reading_of(heartrate="20"), "out_of_range", id="bpm 20"),
        pytest.param(reading_of(heartrate="250.0001"), "out_of_range", id="bpm over 250"),
        pytest.param(reading_of(heartrate="1e400"), "out_of_range", id="bpm beyond a double"),
        pytest.param(reading_of(device_id='"1"'), "wrong_type", id="id in quotes"),
        pytest.param(reading_of(device_id="1.0"), "wrong_type", id="id with a fraction"),
        pytest.param(reading_of(device_id="9223372036854775808"), "wrong_type", id="id of 65 bits"),
        pytest.param(reading_of(device_id="1" * 5000), "wrong_type", id="id of 5000 digits"),
        pytest.param(reading_of(time="true"), "wrong_type", id="boolean time"),
        pytest.param(reading_of(time='"2024-06-01T12:00:00"'), "invalid_time", id="iso without offset"),
        pytest.param(reading_of(time='"1717243200"'), "invalid_time", id="time in quotes"),
        pytest.param(reading_of(time='"2024-02-30T12:00:00Z"'), "invalid_time", id="30 February"),
        pytest.param(reading_of(time="946684799.999999"), "before_2000", id="last instant of 1999"),
        pytest.param(reading_of(time='"0000-02-29T00:00:00Z"'), "before_2000", id="year 0"),
        pytest.param(reading_of(time='"2024-06-01T12:00:00+18:01"'), "invalid_time", id="offset beyond 18 hours"),
        pytest.param(
            b'[{"device_id":1,"device_id":1}]', "duplicate_key", id="key given twice where no message should be"
        ),
        pytest.param(b'{"device_id":1,"device_id":1}}', "malformed_json", id="key given twice in a broken text"),
        pytest.param(reading_of(time="0e999999999"), "before_2000", id="zero with an exponent"),
        pytest.param(reading_of(time="1e999999999"), "out_of_range", id="exponent of a billion"),
        pytest.param(
            reading_of(time="1717243500.000001"), "too_far_in_future", id="just over five minutes in the future"
        ),
        pytest.param(
            b'{"device_id":1,"device_id":1,"time":1717243200,"heartrate":60}', "duplicate_key", id="key given twice"
        ),
    ],
)
def test_reading_is_refused(value: bytes | None, reason: str) -> None:
    judged = judge_reading(value, NOW)
    assert isinstance(judged, Refusal)
    assert judged.reason == reason


def test_workout_is_accepted() -> None:
    value = b'{"user_id":12474,"workout_id":1,"session_id":1,"action":"start","timestamp":1678521900.0}'
    assert judge_workout(value) == WorkoutEvent(12474, 1, 1, "start", at("2023-03-11T08:05:00"))


@pytest.mark.parametrize("action", ['"Start"', '"pause"', '""', "1", "null"])
def test_workout_with_another_action_is_refused(action: str) -> None:
    value = f'{{"user_id":1,"workout_id":1,"session_id":1,"action":{action},"timestamp":1678521900.0}}'
    assert isinstance(judge_workout(value.encode()), Refusal)


def change(
    op: str = '"u"', image: str = '{"user_id":7,"changed_at":1678521900}', source: str = '{"lsn":5,"ts_ms":9}'
) -> bytes:
    half = "before" if op == '"d"' else "after"
    return f'{{"op":{op},"{half}":{image},"source":{source}}}'.encode()


def test_profile_change_is_accepted() -> None:
    told = judge_profile_change(
        change(image='{"user_id":7,"date_of_birth":-1,"changed_at":1678521900123456,"zip":"1"}')
    )
    assert isinstance(told, ToldChange)
    assert told.place == ("5", "", 0, False)
    assert told.change == ProfileChange(
        (0, 0), "u", 7, at("2023-03-11T08:05:00.123456"), 9_000, date_of_birth=date(1969, 12, 31), zip="1"
    )


def test_of_a_deleted_profile_only_the_member_and_the_commit_count() -> None:
    told = judge_profile_change(change(op='"d"', image='{"user_id":7,"changed_at":"never","zip":1}'))
    assert isinstance(told, ToldChange) and told.change == ProfileChange((0, 0), "d", 7, committed_at=9_000)


def test_profile_tombstone_says_nothing() -> None:
    assert judge_profile_change(None) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(change(op='"t"'), "unknown_operation", id="truncate"),
        pytest.param(change(op="1"), "wrong_type", id="operation is a number"),
        pytest.param(change(image="null"), "missing_field", id="no image"),
        pytest.param(change(image="[7]"), "wrong_type", id="image is no object"),
        pytest.param(change(image='{"user_id":7}'), "missing_field", id="no time of change"),
        pytest.param(change(source="5"), "missing_field", id="source is no object"),
        pytest.param(change(source='{"lsn":"5","ts_ms":9}'), "wrong_type", id="lsn in quotes"),
        pytest.param(change(source='{"lsn":5,"ts_ms":4611686018427387904}'), "out_of_range", id="committed ages away"),
        pytest.param(change(image='{"user_id":7,"changed_at":1678521900,"zip":1}'), "wrong_type", id="zip is a number"),
        pytest.param(
            change(image='{"user_id":7,"changed_at":1678521900,"date_of_birth":"0000-01-01"}'),
            "invalid_time",
            id="year 0",
        ),
        pytest.param(
            change(image='{"user_id":7,"changed_at":1678521900,"date_of_birth":2932897}'),
            "out_of_range",
            id="year 10000",
        ),
    ],
)
def test_profile_change_is_refused(value: bytes, reason: str) -> None:
    judged = judge_profile_change(value)
    assert isinstance(judged, Refusal)
    assert judged.reason == reason
