"""Rows that should be there against rows that are there, as text for a person."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

RELATIVE_TOLERANCE = 1e-12
SHOWN = 5


def differences(
    table: str, expected: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]], key: Sequence[str]
) -> str:
    """Empty when both hold the same rows (floats to 1e-12 relative), otherwise what differs, by key.

    Columns that only `found` has are not looked at; a column that only `expected` has is a difference in every row.
    """
    expected_by_key, found_by_key = _by_key(expected, key), _by_key(found, key)
    missing = [k for k in expected_by_key if k not in found_by_key]
    unexpected = [k for k in found_by_key if k not in expected_by_key]
    doubled = [k for k, rows in found_by_key.items() if len(rows) > 1]
    changed = []
    for k in expected_by_key.keys() & found_by_key.keys():
        if len(expected_by_key[k]) > 1:
            raise ValueError(f"{table}: {key} does not make the expected row {k} unique")
        for row in found_by_key[k]:
            columns = [
                f"{column}: expected {_text(value)}, found {_text(row.get(column, 'no such column'))}"
                for column, value in expected_by_key[k][0].items()
                if column not in row or not _equal(value, row[column])
            ]
            if columns:
                changed.append((k, "; ".join(columns)))

    lines = []
    for title, keys, rows in (
        ("missing", missing, expected_by_key),
        ("unexpected", unexpected, found_by_key),
        ("more than once", doubled, found_by_key),
    ):
        lines += [f"  {title}: {len(keys)}"] if keys else []
        lines += [f"    {_row(rows[k][0])}" for k in sorted(keys, key=repr)[:SHOWN]]
    lines += [f"  different: {len(changed)}"] if changed else []
    lines += [f"    {_key(key, k)}: {text}" for k, text in sorted(changed, key=repr)[:SHOWN]]
    if not lines:
        return ""
    counts = f"{sum(map(len, expected_by_key.values()))} expected, {sum(map(len, found_by_key.values()))} found"
    return "\n".join([f"{table} ({counts})", *lines])


def _by_key(rows: Iterable[Mapping[str, Any]], key: Sequence[str]) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[tuple(_plain(row[column]) for column in key)].append(row)
    return found


def _plain(value: Any) -> Any:
    """Times of the same instant are equal whatever their zone; naive ones are UTC."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


def _equal(expected: Any, found: Any) -> bool:
    expected, found = _plain(expected), _plain(found)
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    if isinstance(expected, list):
        return found is not None and expected == list(found)
    return type(expected) is type(found) and expected == found


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def _key(names: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in zip(names, values, strict=True))


def _row(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in row.items())
