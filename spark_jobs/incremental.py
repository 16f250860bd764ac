"""The one idea, as code: find the keys that new rows touch, compute their rows anew from beneath, merge what differs.

    sources --change feed--> touched keys --rows beneath--> rows as they should be --difference--> merge --> outcome row

What a job has read is said by its outcome row, written last. A run that dies before costs a recomputation: the next one
reads the same changes, computes the same rows, and finds nothing left to merge.

Nothing here depends on how much history there is. Touched keys are collected while they are few and become literal
bounds (`user_id BETWEEN 7 AND 9 OR ...`) on every table that is read and on the target of the merge, so that Delta skips
the files of everyone else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import and_
from typing import Any

import pyarrow as pa
import pyarrow.compute
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.job import Job, LastRun

FEW = 5_000  # touched keys that the client holds
FEW_DIFFERENCES = 20_000  # rows to write that the client holds
RANGES = 16  # literal ranges on one column; more would cost planning more than they spare reading

# The time of a source's rows, by which a rebuild of days finds the rows that it takes as changed.
TIMES = {
    "bronze.kafka_multiplex": "kafka_timestamp",
    "bronze.registrations": "registered_at",
    "bronze.gym_visits": "login_at",
    "silver.gym_visits": "login_at",
    "silver.workout_events": "occurred_at",
    "silver.workout_sessions": "started_at",
    "silver.heart_rate": "read_at",
    "silver.workout_heart_rate": "read_at",
}

# What Delta says when a change feed cannot be read from a version on: older than the log, or its files are vacuumed.
FEED_IS_GONE = (
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_CHANGE_DATA_FILE_NOT_FOUND",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_CHANGE_TABLE_FEED_DISABLED",
    "FILE_NOT_EXIST",
    "FileNotFoundException",
    "cannot time travel",
)
BEYOND_LATEST = re.compile(r"(\d+)\D+exceeds the latest table version (\d+)")


def literal(value: Any) -> str:
    """A value as SQL text. A literal rather than an expression, since only literals let a MERGE skip files."""
    match value:
        case bool():
            return str(value).upper()
        case int():
            return f"{value}L" if value != -(2**63) else "CAST('-9223372036854775808' AS BIGINT)"
        case datetime():
            return f"TIMESTAMP'{value.astimezone(UTC).replace(tzinfo=None).isoformat(' ')}Z'"
        case date():
            return f"DATE'{value.isoformat()}'"
        case str():
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    raise TypeError(f"No literal for {type(value).__name__}.")


def ranges[V](pairs: Iterable[tuple[V, V]], at_most: int = RANGES) -> list[tuple[V, V]]:
    """The fewest ranges (inclusive, ascending) that cover all `pairs`, joined over their smallest gaps to `at_most`."""
    merged: list[tuple[V, V]] = []
    for low, high in sorted(pairs):  # type: ignore[type-var]
        if merged and low <= merged[-1][1]:  # type: ignore[operator]
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))  # type: ignore[type-var]
        else:
            merged.append((low, high))
    if len(merged) <= at_most:
        return merged
    gaps = [
        (_distance(before[1], after[0]), place)
        for place, (before, after) in enumerate(zip(merged, merged[1:], strict=False), 1)
    ]
    cuts = sorted(place for _, place in sorted(gaps, reverse=True)[: at_most - 1])
    edges = [0, *cuts, len(merged)]
    return [(merged[first][0], merged[end - 1][1]) for first, end in zip(edges, edges[1:], strict=False)]


def _distance(low: Any, high: Any) -> float:
    if isinstance(low, str):
        return 0.0  # text has an order but no distance: any cut is as good
    difference = high - low
    return difference.total_seconds() if isinstance(difference, timedelta) else float(difference)


@dataclass(frozen=True)
class Slice:
    """Rows that say which part of other tables matters: touched keys, or windows of time.

    `frame` None stands for everything. `known` holds the rows while they are FEW; otherwise `bounds` has the least and
    greatest value of each column.
    """

    frame: DataFrame | None = None
    known: pa.Table | None = None
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: DataFrame) -> Slice:
        """The distinct rows of `frame`; brings them here while they are FEW."""
        distinct = frame.distinct()
        table = distinct.limit(FEW + 1).toArrow()
        if table.num_rows <= FEW:
            return cls(frame.sparkSession.createDataFrame(table), table)
        ends = [end(name).alias(f"{end.__name__}_{name}") for name in frame.columns for end in (F.min, F.max)]
        row = frame.agg(*ends).toArrow().to_pylist()[0]
        return cls(distinct, None, {name: (row[f"min_{name}"], row[f"max_{name}"]) for name in frame.columns})

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
        assert self.frame is not None
        return self.frame.count()

    def within(self, column: str, low: str | None = None, high: str | None = None) -> str:
        """A literal predicate, as SQL text: `column` is in a range from this slice's `low` to its `high`.

        Default: both are the slice's column of that name. NULL in `low` stands for NULL in `column`; NULL in `high` for
        no end. A slice without such a column restricts nothing.
        """
        low, high = low or column, high or low or column
        if self.frame is None or low not in self.frame.columns:
            return "TRUE"
        if self.known is None:
            least, greatest = self.bounds[low][0], self.bounds[high][1]
            if least is None:
                return f"{column} IS NULL"
            inside = _between(column, (least, greatest)) if low == high else f"{column} >= {literal(least)}"
            return f"({inside} OR {column} IS NULL)"
        pairs = set(zip(self.known.column(low).to_pylist(), self.known.column(high).to_pylist(), strict=True))
        closed = [(start, end) for start, end in pairs if start is not None and end is not None]
        parts = [_between(column, pair) for pair in ranges(closed)]
        endless = [start for start, end in pairs if start is not None and end is None]
        if endless:
            parts.append(f"{column} >= {literal(min(endless))}")
        if any(start is None for start, _ in pairs):
            parts.append(f"{column} IS NULL")
        return f"({' OR '.join(parts)})" if parts else "FALSE"

    def among(self, rows: DataFrame, *columns: str, **renamed: str) -> DataFrame:
        """Those of `rows` whose `columns` are in this slice; `renamed` maps a column of the slice to its name in `rows`.

        Columns that the slice does not have (a rebuild by the first key only) do not restrict.
        """
        if self.frame is None:
            return rows
        pairs = {column: column for column in columns} | renamed
        pairs = {ours: theirs for ours, theirs in pairs.items() if ours in self.frame.columns}
        bounded = rows.where(" AND ".join(self.within(theirs, ours) for ours, theirs in pairs.items()))
        if self.known is not None and len(pairs) == 1 and self._is_exact(next(iter(pairs))):
            return bounded
        keys = self.frame.select(*(F.col(ours).alias(f"_{ours}") for ours in pairs))
        keys = keys if self.known is None else F.broadcast(keys)
        same = reduce(and_, (F.col(theirs).eqNullSafe(F.col(f"_{ours}")) for ours, theirs in pairs.items()))
        return bounded.join(keys, same, "left_semi")

    def _is_exact(self, column: str) -> bool:
        """Whether the literal ranges of a column hold its values and nothing else."""
        assert self.known is not None
        return len(set(self.known.column(column).to_pylist())) <= RANGES


def _between(column: str, pair: tuple[Any, Any]) -> str:
    low, high = pair
    return f"{column} = {literal(low)}" if low == high else f"{column} BETWEEN {literal(low)} AND {literal(high)}"


EVERYTHING = Slice()
NOTHING = Slice(known=pa.table({}))


@dataclass
class Changes:
    """What is new in the sources of a job since its last good run.

    `feeds` has a DataFrame for each source with news: rows inserted, deleted, and before and after an update, with
    `_change_type`. `everything` says that it cannot be told what is new (first run, or a feed is gone). `versions` is
    how far each source has been read.
    """

    job: Job
    last: LastRun | None = None
    everything: bool = False
    feeds: dict[str, DataFrame] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def of(self, *sources: str) -> DataFrame | None:
        """The changed rows of a source (of the first one named that has news), or None without news."""
        return next((self.feeds[source] for source in sources if source in self.feeds), None)


class FeedGone(Exception):
    """A change feed cannot be read any more from where it was read last."""


def version(job: Job, table: str) -> int:
    """The latest version of a table."""
    row = job.spark.sql(f"DESCRIBE HISTORY {job.catalog}.{table} LIMIT 1").select("version").head()
    assert row is not None
    return int(row["version"])


def changes(job: Job, sources: Sequence[str]) -> Changes:
    """What is new in `sources` since the last good run of this job; counts it in the job's outcome."""
    last = job.last_run()
    if last is None or any(source not in last.source_versions for source in sources):
        return _everything(job, sources, last)
    news = Changes(job, last)
    try:
        with ThreadPoolExecutor(len(sources)) as threads:
            found = threads.map(lambda source: _feed(job, source, last.source_versions[source]), sources)
        for source, (feed, read, rows) in zip(sources, found, strict=True):
            news.versions[source] = read
            if feed is not None:
                news.feeds[source] = feed
                job.outcome.rows_in[source] = rows
    except FeedGone:
        return _everything(job, sources, last)
    return news


def _everything(job: Job, sources: Sequence[str], last: LastRun | None) -> Changes:
    with ThreadPoolExecutor(len(sources)) as threads:
        latest = threads.map(lambda source: version(job, source), sources)
    return Changes(job, last, everything=True, versions=dict(zip(sources, latest, strict=True)))


def _feed(job: Job, source: str, read: int) -> tuple[DataFrame | None, int, int]:
    """What a source got after version `read`: its changes (None: nothing), the version they go up to, how many rows."""
    try:
        after = job.spark.read.option("readChangeFeed", "true").option("startingVersion", read + 1)
        table = f"{job.catalog}.{source}"
        counted = F.count(F.when(F.col("_change_type") != "update_preimage", True))
        row = after.table(table).agg(F.max("_commit_version").alias("latest"), counted.alias("rows")).head()
        if row is None or row["latest"] is None:  # commits without rows, as those of OPTIMIZE
            return None, read, 0
        return after.option("endingVersion", row["latest"]).table(table), int(row["latest"]), int(row["rows"])
    except PySparkException as error:
        beyond = BEYOND_LATEST.search(str(error))
        if beyond and int(beyond[2]) == read:
            return None, read, 0
        if beyond or any(sign in str(error) for sign in FEED_IS_GONE):
            raise FeedGone(source) from error
        raise


@dataclass(frozen=True)
class Table:
    """How one table follows from those beneath.

    `key`: what is recomputed as one (columns of the target). `row_key`: what names a row of it. `clustering`: columns
    of its layout, whose old values tell which files a merge must read. `touched`: changes -> frames with the key, and
    if `time` is given (a column of the target) with `since` and `until`, between which the key's rows lie (NULL in
    `until`: without end). `rows`: (job, slice of keys) -> the rows of these keys as they should be.
    """

    name: str
    key: tuple[str, ...]
    row_key: tuple[str, ...]
    clustering: tuple[str, ...]
    sources: tuple[str, ...]
    touched: Callable[[Changes], Iterable[DataFrame]]
    rows: Callable[[Job, Slice], DataFrame]
    time: str | None = None

    @property
    def slice_columns(self) -> tuple[str, ...]:
        return (*self.key, "since", "until") if self.time else self.key

    def existing(self, job: Job, keys: Slice) -> DataFrame:
        """The target's rows of these keys as they are."""
        rows = job.table(self.name)
        return keys.among(rows.where(keys.within(self.time, "since", "until")) if self.time else rows, *self.key)


def refresh(job: Job, table: Table) -> None:
    """Bring a table up to date with its sources, or recompute what the arguments of the job ask for."""
    if job.rebuild:
        keys = asked_for(job, table)
    else:
        news = changes(job, table.sources)
        keys = EVERYTHING if news.everything else touched_keys(table, news)
        if keys.is_everything:
            job.outcome.mode = "everything"
        job.outcome.source_versions |= news.versions
        if keys.is_everything and not any(news.versions.values()):
            return  # nobody has ever written to a source
    job.outcome.touched = None if keys.is_everything else keys.count()
    if not keys.is_nothing:
        merge(job, table, keys)


def touched_keys(table: Table, news: Changes) -> Slice:
    """The keys that changes touch; everything when a feed turns out to be gone on reading it."""
    try:
        return _union(table, table.touched(news))
    except PySparkException as error:
        if any(sign in str(error) for sign in FEED_IS_GONE):
            return EVERYTHING
        raise


def asked_for(job: Job, table: Table) -> Slice:
    """The keys of a rebuild: everything, those given (values of the key's first column), or those of the days given.

    A rebuild of days takes every source row of these days as changed, and the target's own rows of them as touched.
    """
    wanted, first = job.rebuild, table.key[0]
    if wanted.full:
        return EVERYTHING
    target = job.table(table.name)
    values = job.spark.createDataFrame([(key,) for key in wanted.keys], "key STRING")
    chosen = Slice.of(values.select(F.col("key").cast(target.schema[first].dataType).alias(first)))
    if not (wanted.from_date or wanted.to_date):
        return chosen

    def of_days(rows: DataFrame, time: str) -> DataFrame:
        day = F.col(time).cast("date")
        return rows.where(day.between(wanted.from_date or date.min, wanted.to_date or date.max))

    news = Changes(job)
    for source in table.sources:
        if source in TIMES:
            news.feeds[source] = of_days(job.table(source), TIMES[source]).withColumn("_change_type", F.lit("insert"))
    frames = list(table.touched(news))
    time = table.time or next((name for name in table.row_key if name.endswith(("_date", "_at"))), None)
    if time:
        ours = of_days(target, time).withColumns({"since": F.col(time), "until": F.col(time)})
        frames.append(ours)
    days = _union(table, frames)
    return days if not wanted.keys or days.frame is None else Slice.of(chosen.among(days.frame, first))


def _union(table: Table, frames: Iterable[DataFrame]) -> Slice:
    chosen = [frame.select(*table.slice_columns) for frame in frames]
    return Slice.of(reduce(DataFrame.union, chosen)) if chosen else NOTHING


def difference(wanted: DataFrame, existing: DataFrame, row_key: Sequence[str], old: Sequence[str] = ()) -> DataFrame:
    """What must be done to `existing` so that it is `wanted`: the wanted row (of a delete only its key), `_change`
    (insert, update or delete), and for each column in `old` its present value as `_old_<column>`."""
    columns = wanted.columns
    left = wanted.select(F.struct(*columns).alias("_wanted"))
    right = existing.select(F.struct(*columns).alias("_existing"))
    same = reduce(and_, (F.col(f"_wanted.{column}").eqNullSafe(F.col(f"_existing.{column}")) for column in row_key))
    change = (
        F.when(F.col("_existing").isNull(), "insert")
        .when(F.col("_wanted").isNull(), "delete")
        .when(~F.col("_wanted").eqNullSafe(F.col("_existing")), "update")
    )
    row = [
        (
            F.coalesce(F.col(f"_wanted.{column}"), F.col(f"_existing.{column}"))
            if column in row_key
            else F.col(f"_wanted.{column}")
        ).alias(column)
        for column in columns
    ]
    before = [F.col(f"_existing.{column}").alias(f"_old_{column}") for column in old]
    joined = left.join(right, same, "full_outer").withColumn("_change", change)
    return joined.where("_change IS NOT NULL").select("_change", *row, *before)


def merge(job: Job, table: Table, keys: Slice) -> None:
    """Make the target's rows of these keys what they should be. No difference is no commit; new rows only, an append."""
    target = job.table(table.name)
    wanted = table.rows(job, keys).select(*target.columns)
    if keys.is_everything and target.isEmpty():
        _append(job, table, wanted)
        job.outcome.rows_out[table.name] = _rows_of_last_commit(job, table)
        return
    differences = difference(wanted, table.existing(job, keys), table.row_key, table.clustering)
    few = differences.limit(FEW_DIFFERENCES + 1).toArrow()
    if few.num_rows <= FEW_DIFFERENCES:
        if not few.num_rows:
            return
        kinds = set(few.column("_change").to_pylist())
        job.outcome.rows_out[table.name] = few.num_rows
        differences = job.spark.createDataFrame(few, differences.schema)
        before = Slice(differences, few.filter(pa.compute.not_equal(few.column("_change"), "insert")))
        bounds = [before.within(column, f"_old_{column}") for column in table.clustering]
    else:
        counted = differences.groupBy("_change").count().toArrow().to_pylist()
        kinds = {row["_change"] for row in counted}
        job.outcome.rows_out[table.name] = sum(row["count"] for row in counted)
        bounds = [keys.within(column) for column in table.key]
    if kinds == {"insert"}:
        _append(job, table, differences.select(*target.columns))
    else:
        _merge(job, table, differences, target.columns, bounds)


def _append(job: Job, table: Table, rows: DataFrame) -> None:
    rows.writeTo(f"{job.catalog}.{table.name}").append()
    _say_version(job, table)


def _merge(job: Job, table: Table, differences: DataFrame, columns: list[str], bounds: list[str]) -> None:
    view = f"differences_of_{table.name.replace('.', '_')}"
    differences.createOrReplaceTempView(view)
    same = " AND ".join(f"target.{column} <=> source.{column}" for column in table.row_key)
    try:
        job.spark.sql(
            f"""
            MERGE INTO {job.catalog}.{table.name} AS target USING {view} AS source
            ON {same} AND {" AND ".join(bounds)}
            WHEN MATCHED AND source._change = 'delete' THEN DELETE
            WHEN MATCHED THEN UPDATE SET {", ".join(f"target.{column} = source.{column}" for column in columns)}
            WHEN NOT MATCHED THEN INSERT ({", ".join(columns)})
                VALUES ({", ".join(f"source.{column}" for column in columns)})
            """
        )
    finally:
        job.spark.catalog.dropTempView(view)
    _say_version(job, table)


def _say_version(job: Job, table: Table) -> None:
    committed = job.spark.conf.get("spark.databricks.delta.lastCommitVersionInSession", None)
    if committed is not None:
        job.outcome.target_versions[table.name] = int(committed)


def _rows_of_last_commit(job: Job, table: Table) -> int:
    row = job.spark.sql(f"DESCRIBE HISTORY {job.catalog}.{table.name} LIMIT 1").select("operationMetrics").head()
    return int(row["operationMetrics"].get("numOutputRows", 0)) if row else 0
