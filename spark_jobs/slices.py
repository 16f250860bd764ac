"""Slices: the few rows that say which part of a table matters, as literals by which Delta skips the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from itertools import pairwise
from operator import and_
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

FEW = 5_000  # rows of a slice that the client holds
RANGES = 16  # literal ranges on one column; more would cost planning more than they spare reading
INSTANT, DAY = timedelta(), timedelta(days=1)


def literal(value: Any) -> str:
    """A value as SQL text. A literal rather than an expression, since only literals let a MERGE skip files."""
    match value:
        case int():
            return f"{value}L" if value > -(2**63) else "CAST('-9223372036854775808' AS BIGINT)"
        case datetime():
            return f"TIMESTAMP'{value.astimezone(UTC).replace(tzinfo=None).isoformat(' ')}Z'"
        case date():
            return f"DATE'{value.isoformat()}'"
        case str():
            # `${name}` would be put in by Spark, whatever it stands in
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\u0024") + "'"
    raise TypeError(f"No literal for {type(value).__name__}.")


def ranges(pairs: Iterable[tuple[Any, Any]], at_most: int = RANGES) -> list[tuple[Any, Any]]:
    """Ranges (inclusive, ascending) that cover all `pairs` and nothing else; if more than `at_most`, joined over their
    smallest gaps."""
    merged: list[tuple[Any, Any]] = []
    for low, high in sorted(pairs):
        if merged and low <= _next(merged[-1][1]):
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    if len(merged) <= at_most:
        return merged
    gaps = sorted(((_gap(before[1], after[0]), place) for place, (before, after) in enumerate(pairwise(merged), 1)))
    cuts = sorted(place for _, place in gaps[-(at_most - 1) :]) if at_most > 1 else []
    return [(merged[first][0], merged[end - 1][1]) for first, end in pairwise([0, *cuts, len(merged)])]


def _next(value: Any) -> Any:
    """The whole number or day that follows; of all others, between which there are always more, the value itself."""
    match value:
        case int():
            return value + 1
        case date() if not isinstance(value, datetime) and value < date.max:
            return value + DAY
    return value


def _gap(low: Any, high: Any) -> float:
    if isinstance(low, str):
        return 0.0  # text has an order but no distance: any cut is as good
    gap = high - low
    return gap.total_seconds() if isinstance(gap, timedelta) else float(gap)


@dataclass(frozen=True)
class Slice:
    """Rows that say which part of other tables matters: touched keys, or periods.

    `frame` None (and `known` None) stands for everything. `known` holds the rows while they are FEW; otherwise `bounds`
    has the least and greatest value of each column.
    """

    frame: DataFrame | None = None
    known: pa.Table | None = None
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: DataFrame, *, unique: bool = False, keys: Sequence[str] = ()) -> Slice:
        """The distinct rows of `frame` (`unique`: it has no others); brings them here while they are FEW.

        `keys`: the columns by which it will restrict other tables, if not all.
        """
        distinct = frame if unique else frame.distinct()
        table = distinct.limit(FEW + 1).toArrow()
        if table.num_rows <= FEW:
            schema = None if table.num_rows else frame.schema  # of no rows Spark does not take the types from the table
            return cls(frame.sparkSession.createDataFrame(table, schema), table)
        names = keys or table.column_names
        ends = [end(name).alias(f"{end.__name__}_{name}") for name in names for end in (F.min, F.max)]
        row = frame.agg(*ends).toArrow().to_pylist()[0]
        return cls(distinct, None, {name: (row[f"min_{name}"], row[f"max_{name}"]) for name in names})

    @property
    def columns(self) -> list[str]:
        """Its columns; none of everything. (A DataFrame would have to ask Spark.)"""
        return list(self.bounds) if self.known is None else self.known.column_names

    @property
    def is_everything(self) -> bool:
        return self.frame is None and self.known is None

    @property
    def is_nothing(self) -> bool:
        return self.known is not None and self.known.num_rows == 0

    def count(self) -> int:
        """How many rows; everything cannot be counted."""
        if self.known is not None:
            return int(self.known.num_rows)
        if self.frame is None:
            raise ValueError("Everything cannot be counted.")
        return self.frame.count()

    def within(self, column: str, low: str | None = None, high: str | None = None, longer: timedelta = INSTANT) -> str:
        """A literal predicate, as SQL text: `column` is in a range from this slice's `low` to its `high` plus `longer`.

        Default: both are the slice's column of that name. NULL in `low` stands for NULL in `column`; NULL in `high` for
        no end. A slice without such a column restricts nothing.
        """
        low, high = low or column, high or low or column
        if not self.has(low):
            return "TRUE"
        found = self._ranges(low, high)
        if longer:
            found = [(first, last and _later(last, longer)) for first, last in found]
        return _any([*(_between(column, *pair) for pair in found), *self._null(column, low)])

    def on_days(self, column: str, day: str, earlier: timedelta = INSTANT) -> str:
        """A literal predicate: the timestamp `column` is on one of this slice's days, or up to `earlier` before it."""
        if not self.has(day):
            return "TRUE"
        found = ((_midnight(first) - earlier, _later(_midnight(last), DAY)) for first, last in self._ranges(day, day))
        return _any(f"({column} >= {literal(first)} AND {_before(column, end)})" for first, end in found)

    def earliest(self, column: str) -> Any:
        """The least value of a column; None without one, or where the slice does not restrict it."""
        return min((first for first, _ in self._ranges(column, column)), default=None) if self.has(column) else None

    def from_day(self, column: str, day: str) -> str:
        """A literal predicate: the timestamp `column` is on this slice's earliest day or later."""
        first = self.earliest(day)
        return "TRUE" if first is None else f"{column} >= {literal(_midnight(first))}"

    def spanning_days(self, column: str, day: str, earlier: timedelta = INSTANT) -> str:
        """A literal predicate: the timestamp `column` is on a day from this slice's earliest to its last, or up to
        `earlier` before them."""
        first = self.earliest(day)
        if first is None:
            return "TRUE"
        last = max(last for _, last in self._ranges(day, day))
        return (
            f"({column} >= {literal(_midnight(first) - earlier)} AND {_before(column, _later(_midnight(last), DAY))})"
        )

    def meeting_days(self, start: str, end: str, day: str) -> str:
        """A literal predicate: a period from `start` to `end` (NULL: without end) meets one of this slice's days."""
        if not self.has(day):
            return "TRUE"
        found = ((literal(_midnight(first)), _later(_midnight(last), DAY)) for first, last in self._ranges(day, day))
        return _any(f"({_before(start, after)} AND ({end} IS NULL OR {end} >= {first}))" for first, after in found)

    def overlapping(self, start: str, end: str, low: str, high: str) -> str:
        """A literal predicate: a period from `start` to `end` (NULL: without end) meets one from this slice's `low` to
        its `high`, which may be the same column."""
        if not self.has(low):
            return "TRUE"
        parts = []
        for first, last in self._ranges(low, high):
            begins = "TRUE" if last is None else f"{start} <= {literal(last)}"
            parts.append(f"({begins} AND ({end} IS NULL OR {end} >= {literal(first)}))")
        return _any(parts)

    def among(self, rows: DataFrame, *columns: str, **renamed: str) -> DataFrame:
        """Those of `rows` whose `columns` are in this slice; `renamed` maps a slice's column to its name in `rows`.

        Columns that the slice does not have (a rebuild by the first key only) do not restrict.
        """
        pairs = {
            ours: theirs for ours, theirs in ({name: name for name in columns} | renamed).items() if self.has(ours)
        }
        if self.frame is None or not pairs:
            return rows
        bounded = rows.where(" AND ".join(self.within(theirs, ours) for ours, theirs in pairs.items()))
        if self.known is not None and len(pairs) == 1 and self._is_listed(next(iter(pairs))):
            return bounded
        keys = self.frame.select(*(F.col(ours).alias(f"_{ours}") for ours in pairs))
        same = reduce(and_, (F.col(theirs).eqNullSafe(F.col(f"_{ours}")) for ours, theirs in pairs.items()))
        return bounded.join(keys if self.known is None else F.broadcast(keys), same, "left_semi")

    def has(self, column: str) -> bool:
        """Whether it restricts this column."""
        return column in self.columns

    def _is_listed(self, column: str) -> bool:
        """Whether the literal ranges of a column hold its values and nothing else."""
        assert self.known is not None
        return len(set(self.known.column(column).to_pylist())) <= RANGES

    def _ranges(self, low: str, high: str) -> list[tuple[Any, Any]]:
        """Ranges that cover all pairs of `low` and `high`; an open end is None, and only in the last range."""
        if self.known is None:
            least, greatest = self.bounds[low][0], self.bounds[high][1]
            return [] if least is None else [(least, greatest if low == high else None)]
        pairs = set(zip(self.known.column(low).to_pylist(), self.known.column(high).to_pylist(), strict=True))
        endless = min((first for first, last in pairs if first is not None and last is None), default=None)
        closed = ranges((first, last) for first, last in pairs if first is not None and last is not None)
        if endless is None:
            return closed
        reached = [first for first, last in closed if last >= endless]
        return [*((first, last) for first, last in closed if last < endless), (min([endless, *reached]), None)]

    def _null(self, column: str, low: str) -> list[str]:
        """That the column is NULL, where the slice has NULL."""
        return [f"{column} IS NULL"] if self.known is None or self.known.column(low).null_count else []


def _any(predicates: Iterable[str]) -> str:
    return f"({' OR '.join(predicates) or 'FALSE'})"


def _between(column: str, low: Any, high: Any) -> str:
    if high is None:
        return f"{column} >= {literal(low)}"
    return f"{column} = {literal(low)}" if low == high else f"{column} BETWEEN {literal(low)} AND {literal(high)}"


def _later(moment: Any, by: timedelta) -> Any:
    """None after the end of the year 9999, after which there is nothing to exclude (and Python has no times)."""
    try:
        return moment + by
    except OverflowError:
        return None


def _before(column: str, end: datetime | None) -> str:
    return "TRUE" if end is None else f"{column} < {literal(end)}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


EVERYTHING = Slice()
NOTHING = Slice(known=pa.table({"nothing": pa.array([], pa.int64())}))
