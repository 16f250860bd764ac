"""Literals and ranges: what of a table a slice lets through, always a superset and never more ranges than asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.slices import EVERYTHING, NOTHING, Slice, literal, ranges

pairs = st.tuples(st.integers(-50, 50), st.integers(0, 9)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(pairs, max_size=40), st.integers(1, 6))
def test_ranges_cover_every_pair(given_pairs: list[tuple[int, int]], at_most: int) -> None:
    found = ranges(given_pairs, at_most)
    assert all(any(low <= first and last <= high for low, high in found) for first, last in given_pairs)


@given(st.lists(pairs, max_size=40), st.integers(1, 6))
def test_ranges_are_few_ascending_and_apart(given_pairs: list[tuple[int, int]], at_most: int) -> None:
    found = ranges(given_pairs, at_most)
    assert len(found) <= at_most
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(st.lists(pairs, max_size=40))
def test_ranges_that_need_not_be_few_cover_nothing_else(given_pairs: list[tuple[int, int]]) -> None:
    found = ranges(given_pairs, at_most=40)
    covered = [value for low, high in found for value in range(low, high + 1)]
    assert covered == sorted({value for low, high in given_pairs for value in range(low, high + 1)})
    assert all(before[1] + 1 < after[0] for before, after in pairwise(found))


def test_ranges_of_days_join_where_no_day_is_between_and_of_moments_do_not() -> None:
    days = [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 2), date.max]
    assert ranges((day, day) for day in days) == [(days[0], days[1]), (days[2], days[2]), (date.max, date.max)]
    moments = [datetime(2024, 2, 28, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)]
    assert ranges((moment, moment) for moment in moments) == [(moment, moment) for moment in moments]


def test_ranges_are_cut_at_the_widest_gaps() -> None:
    assert ranges([(1, 1), (3, 3), (10, 10), (12, 12), (99, 99)], at_most=3) == [(1, 3), (10, 12), (99, 99)]


def test_ranges_of_text_need_no_distance() -> None:
    assert ranges([("b", "b"), ("a", "a"), ("c", "c")], at_most=1) == [("a", "c")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(7, "7L", id="integer"),
        pytest.param(-(2**63), "CAST('-9223372036854775808' AS BIGINT)", id="least-integer"),
        pytest.param(date(2024, 2, 29), "DATE'2024-02-29'", id="date"),
        pytest.param(datetime(2024, 1, 1, 1, 2, 3, 4, UTC), "TIMESTAMP'2024-01-01 01:02:03.000004Z'", id="timestamp"),
        pytest.param("it's \\ me", "'it\\'s \\\\ me'", id="text-with-quote-and-backslash"),
    ],
)
def test_a_literal_is_sql(value: object, text: str) -> None:
    assert literal(value) == text


def test_a_literal_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        literal(1.5)


def slice_of(**columns: list[object]) -> Slice:
    return Slice(known=pa.table(columns))


NINE, TEN, NOON = (datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (9, 10, 12))


def test_everything_restricts_nothing() -> None:
    assert EVERYTHING.within("user_id") == "TRUE"
    assert EVERYTHING.is_everything and not EVERYTHING.is_nothing


def test_nothing_is_not_everything() -> None:
    assert NOTHING.is_nothing and not NOTHING.is_everything


def test_a_column_that_a_slice_does_not_have_is_not_restricted() -> None:
    assert slice_of(user_id=[1]).within("session_id") == "TRUE"


def test_a_slice_without_rows_lets_nothing_through() -> None:
    assert slice_of(user_id=pa.array([], pa.int64())).within("user_id") == "(FALSE)"


def test_null_in_a_slice_lets_null_through() -> None:
    assert slice_of(user_id=[3, None]).within("user_id") == "(user_id = 3L OR user_id IS NULL)"


def test_a_period_without_end_lets_all_later_through() -> None:
    periods = slice_of(since=[NOON, NINE], until=[None, TEN])
    assert periods.within("read_at", "since", "until") == (
        "(read_at BETWEEN TIMESTAMP'2024-01-01 09:00:00Z' AND TIMESTAMP'2024-01-01 10:00:00Z'"
        " OR read_at >= TIMESTAMP'2024-01-01 12:00:00Z')"
    )


def test_a_closed_period_that_reaches_an_endless_one_becomes_part_of_it() -> None:
    periods = slice_of(since=[TEN, NINE], until=[None, NOON])
    assert periods.within("read_at", "since", "until") == "(read_at >= TIMESTAMP'2024-01-01 09:00:00Z')"


def test_a_period_can_be_lengthened() -> None:
    found = slice_of(since=[NINE], until=[NINE]).within("read_at", "since", "until", longer=timedelta(hours=1))
    assert found == "(read_at BETWEEN TIMESTAMP'2024-01-01 09:00:00Z' AND TIMESTAMP'2024-01-01 10:00:00Z')"


def test_days_become_timestamps_from_midnight_to_midnight() -> None:
    assert slice_of(day=[date(2024, 2, 29)]).on_days("read_at", "day", earlier=timedelta(seconds=15)) == (
        "((read_at >= TIMESTAMP'2024-02-28 23:59:45Z' AND read_at < TIMESTAMP'2024-03-01 00:00:00Z'))"
    )


def test_days_that_lie_apart_are_spanned_from_the_first_to_the_last() -> None:
    apart = slice_of(day=[date(2024, 3, 1), date(2024, 2, 1), None])
    assert apart.earliest("day") == date(2024, 2, 1)
    assert apart.spanning_days("started_at", "day", earlier=timedelta(hours=3)) == (
        "(started_at >= TIMESTAMP'2024-01-31 21:00:00Z' AND started_at < TIMESTAMP'2024-03-02 00:00:00Z')"
    )
    assert EVERYTHING.earliest("day") is None
    assert EVERYTHING.spanning_days("started_at", "day") == "TRUE"


def test_the_last_day_of_the_calendar_has_no_end_that_could_overflow() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
    of_day = slice_of(day=[date(9999, 12, 31)])
    assert of_day.on_days("t", "day") == "((t >= TIMESTAMP'9999-12-31 00:00:00Z' AND TRUE))"
    assert of_day.meeting_days("a", "b", "day").startswith("((TRUE AND (b IS NULL OR b >= TIMESTAMP'9999-12-31")
    of_moment = slice_of(t=pa.array([last], pa.timestamp("us", "UTC")))
    assert of_moment.within("t", longer=timedelta(hours=3)) == "(t >= TIMESTAMP'9999-12-31 23:59:59.999999Z')"
