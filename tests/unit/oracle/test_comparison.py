from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.oracle import differences

ROW = {"id": 1, "bpm": 70.0, "at": datetime(2024, 1, 1, tzinfo=UTC), "seen": [1, 2], "city": None}


def found(**changes: Any) -> str:
    return differences("t", [ROW], [ROW | changes], ["id"])


def test_equal_rows_have_no_difference() -> None:
    assert found() == ""
    assert found(bpm=70.0 * (1 + 1e-13), at=datetime(2024, 1, 1)) == ""  # noqa: DTZ001 - naive times are UTC


def test_every_kind_of_difference_is_named() -> None:
    assert "expected 70.0, found 70.00001" in found(bpm=70.00001)
    assert "city: expected None, found ''" in found(city="")
    assert "seen" in found(seen=[2, 1])
    assert "bpm: expected 70.0, found 70" in found(bpm=70)
    text = found(id=2)
    assert "missing: 1" in text and "unexpected: 1" in text
    assert "more than once: 1" in differences("t", [ROW], [ROW, ROW], ["id"])
    assert "no such column" in differences("t", [ROW], [{"id": 1}], ["id"])
