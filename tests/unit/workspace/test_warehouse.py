"""How values that Spark sends as Arrow become text."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pytest
from pyspark.sql import types as t

from local.workspace import sql_api, warehouse
from local.workspace.sql_api import Execute, Statements
from local.workspace.warehouse import ResultTooLarge, Table, Warehouse, cell, python_values
from tests.waiting import until

UTC_TIME = pa.timestamp("us", tz="UTC")
DAY_MICROSECONDS = 86_400_000_000


def text(values: pa.Array, kind: t.DataType) -> str | None:
    return cell(python_values(pa.chunked_array([values]))[0], kind)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (0, "1970-01-01"),
        (-719_162, "0001-01-01"),
        (-719_163, "0000-12-31"),
        (-1_000_000, "-0768-02-04"),
        (2_932_896, "9999-12-31"),
        (2_932_897, "+10000-01-01"),
        (11_016, "2000-02-29"),
    ],
)
def test_a_day_of_any_year_is_text(days: int, expected: str) -> None:
    assert text(pa.array([days], pa.date32()), t.DateType()) == expected
    time = pa.array([days * DAY_MICROSECONDS + 1_500_000], UTC_TIME)
    assert text(time, t.TimestampType()) == f"{expected}T00:00:01.500Z"


def test_times_have_milliseconds_or_all_six_digits_and_a_zone_only_where_they_have_one() -> None:
    at = pa.array([datetime(2026, 1, 2, 3, 4, 5, 123_456, UTC)], UTC_TIME).cast(pa.timestamp("us"))
    assert text(at, t.TimestampNTZType()) == "2026-01-02T03:04:05.123456"
    before = pa.array([datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)], UTC_TIME)
    assert text(before, t.TimestampType()) == "1969-12-31T23:59:59.999Z"


def test_days_and_times_within_other_values_are_text_too() -> None:
    inner = pa.struct([("at", UTC_TIME), ("name", pa.string())])
    value: list[Any] = [[(date(2026, 5, 1), [{"at": datetime(2026, 5, 1, tzinfo=UTC), "name": "x"}, None])]]
    kind = t.MapType(t.DateType(), t.ArrayType(t.StructType().add("at", t.TimestampType()).add("name", t.StringType())))
    array = pa.array(value, pa.map_(pa.date32(), pa.list_(inner)))
    assert text(array, kind) == '{"2026-05-01":[{"at":"2026-05-01T00:00:00.000Z","name":"x"},null]}'


@pytest.mark.parametrize(("value", "rows"), [(None, 20), ("", 33), ("abcd", 14)], ids=["null", "empty", "text"])
def test_a_cell_counts_as_long_as_its_json_is(value: str | None, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Mock()
    session.sql.return_value.schema = t.StructType().add("a", t.StringType())
    monkeypatch.setattr(warehouse, "MAX_RESULT_BYTES", 100)
    monkeypatch.setattr(warehouse, "_batches", lambda session, frame: iter([[(value,)] * asked]))
    asked = rows
    assert len(warehouse.query(session, "SELECT").rows) == rows
    asked = rows + 1
    with pytest.raises(ResultTooLarge):
        warehouse.query(session, "SELECT")


def test_of_large_results_those_that_ended_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(t.StructType(), size=sql_api.KEEP_BYTES // 2)
    monkeypatch.setattr(sql_api, "query", lambda *_: table)
    statements = Statements(Mock(spec=Warehouse))
    made = []
    for _ in range(3):
        made.append(statements.submit(Execute(statement="SELECT", warehouse_id="local")))
        until(made[-1].ended.is_set)
    until(lambda: list(statements.known.values()) == made[1:])


def test_a_result_is_kept_from_when_its_statement_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begins, ends = 1000.0, 1000.0 + 2 * sql_api.KEEP_SECONDS
    monkeypatch.setattr(sql_api, "time", SimpleNamespace(monotonic=lambda: begins))
    statements = Statements(Mock(spec=Warehouse))
    slow = sql_api.Statement("slow", Execute(statement="SELECT", warehouse_id="local"))
    statements.known[slow.id] = slow
    monkeypatch.setattr(sql_api, "time", SimpleNamespace(monotonic=lambda: ends))
    slow.finish("SUCCEEDED")
    statements._forget()
    assert list(statements.known) == ["slow"]
    later = SimpleNamespace(monotonic=lambda: ends + sql_api.KEEP_SECONDS + 1)
    monkeypatch.setattr(sql_api, "time", later)
    statements._forget()
    assert not statements.known
