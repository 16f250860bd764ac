"""What a batch of the stream touches, as few spans of minutes with the devices that matter there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spark_jobs import slices
from spark_jobs.streaming.readings import FEW_DEVICES, Span, spans, within

touched = st.dictionaries(st.integers(0, 10_000), st.frozensets(st.integers(1, 200), min_size=1), max_size=60)


@given(touched)
def test_every_device_of_every_minute_is_in_a_span(touched: dict[int, frozenset[int]]) -> None:
    found = spans(touched)
    assert len(found) <= slices.RANGES
    for minute, devices in touched.items():
        [span] = [span for span in found if span.first <= minute < span.end]
        assert span.devices is None or devices <= span.devices


@given(touched)
def test_a_span_names_its_devices_where_they_are_few(touched: dict[int, frozenset[int]]) -> None:
    for span in spans(touched):
        there = frozenset().union(*(touched[minute] for minute in touched if span.first <= minute < span.end))
        assert span.devices == (there if len(there) <= FEW_DEVICES else None)


def test_spans_become_a_condition_of_literals_with_the_latest_first() -> None:
    late, live = Span(28_333_333, 28_333_335, frozenset({9, 7})), Span(28_400_000, 28_400_001)
    assert within([late, live], "read_at", "device_id") == (
        "(read_at >= TIMESTAMP'2023-12-31 05:20:00Z' AND read_at < TIMESTAMP'2023-12-31 05:21:00Z')"
        " OR (read_at >= TIMESTAMP'2023-11-14 22:13:00Z' AND read_at < TIMESTAMP'2023-11-14 22:15:00Z'"
        " AND device_id IN (7L, 9L))"
    )
