"""Extraction of a SQL table into bronze by row version: no version lost, none twice, deletions seen.

Reads the versions from where the last good run ended up to the smallest one still in flight, and appends those that
bronze does not hold. A row that has gone is found by counting first (cheap), and only when the counts differ by
comparing keys; it is appended as a version `is_deleted` with what the row held last. A row that comes back is a new
version. The number of such a deletion is the last one that was final: below any version the row may get later.

Why counts are enough: every row of the source below the limit is a living one in bronze, so as many are the same ones.
That rests on knowing how many live in bronze, which is counted anew when a run before has died after its rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.bronze.dialects import Dialect, dialect_of
from spark_jobs.incremental import alone, rows_of_last_commit
from spark_jobs.slices import Slice

FETCH_ROWS = 10_000
USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
ERASURE = "erasure"  # how the user metadata of a commit begins that may delete from bronze


class SourceWentBack(Exception):
    """The source gives smaller versions than it did: it was restored, and its new rows would not be seen."""


@dataclass(frozen=True)
class Source:
    """A SQL table, its primary key, and its columns with their types in bronze (the key among them)."""

    table: str
    target: str
    key: str
    columns: Mapping[str, str]

    @property
    def live(self) -> str:
        """How the outcome calls the number of rows that are not deleted."""
        return f"{self.table}:live"


class Database:
    """Questions to the source. The password goes into the reader's options only, where Spark hides it from plans."""

    def __init__(self, run: job.Job) -> None:
        self.dialect: Dialect = dialect_of(run.arguments.jdbc_url)
        self._read = run.spark.read.format("jdbc").options(
            url=run.arguments.jdbc_url,
            driver=self.dialect.driver,
            user=run.arguments.sql_user,
            password=run.platform.secret(run.spark, "sql_password"),
            fetchsize=str(FETCH_ROWS),
        )

    def rows(self, query: str) -> DataFrame:
        return self._read.option("query", query).load()

    def number(self, query: str) -> int:
        row = self.rows(query).head()
        assert row is not None
        return int(row[0])


def extract(run: job.Job, source: Source) -> None:
    """Append to bronze what has changed in the source, deletions included."""
    database, last = Database(run), run.last_run()
    read = last.source_versions if last else {}
    low, high = read.get(source.table, 0), database.number(database.dialect.in_flight)
    if high < low and not run.rebuild.full:
        raise SourceWentBack(
            f"{source.table} was read up to version {low}, and now says that {high} is still to come. After a restore "
            "of the source run this job once with --full."
        )
    if run.rebuild:
        run.outcome.mode = "everything"  # which keeps the books, unlike a rebuild: all has been read
        forget(run, source, database, high)
        read, low = {}, 0
    with alone(run, source.target):
        known = run.table(source.target).where(f"row_version >= {low} AND NOT is_deleted")
        live = read.get(source.live)
        if live is not None and known.limit(1).count():
            live = None  # left by a run that died: the books do not count them
        fresh = new_versions(source, database, known, low, high)
        if live is not None:
            live += fresh.count() - known_of(run, source, fresh)
        append(run, source, fresh, is_deleted=False)
    present = database.number(database.dialect.count(source.table, high))
    if live != present:
        with alone(run, source.target):
            append(run, source, gone(run, source, database, high), is_deleted=True)
        live = living(run.table(source.target), source).count()
        # as of the same version a source can only lose rows: what it has more of was there, and was not read
        if live < present and live < database.number(database.dialect.count(source.table, high)):
            raise SourceWentBack(
                f"{source.table} has rows with versions that were passed and are not in {source.target}. After a"
                " restore of the source, or where rows of bronze were lost, run this job once with --full."
            )
    run.outcome.source_versions |= {source.table: high, source.live: live}


def new_versions(source: Source, database: Database, known: DataFrame, low: int, high: int) -> Slice:
    """Versions from `low` up to but not `high` that are not among the `known` ones of bronze."""
    versions = database.rows(database.dialect.versions(source.table, source.columns, low, high))
    typed = versions.select(*(_typed(source, name) for name in source.columns), F.col("row_version").cast("bigint"))
    return Slice.of(typed.join(known, [source.key, "row_version"], "left_anti"), keys=[source.key])


def known_of(run: job.Job, source: Source, fresh: Slice) -> int:
    """Of how many of the fresh rows bronze holds a living version already."""
    if fresh.is_nothing:
        return 0
    return living(fresh.among(run.table(source.target), source.key), source).count()


def gone(run: job.Job, source: Source, database: Database, high: int) -> Slice:
    """What lives in bronze and is not in the source any more, as of the last version that is final."""
    keys = database.rows(database.dialect.keys(source.table, source.key)).select(_typed(source, source.key))
    missing = living(run.table(source.target), source).join(keys, source.key, "left_anti")
    as_of = F.lit(high - 1).cast("bigint").alias("row_version")
    return Slice.of(missing.select(*source.columns, as_of), keys=[source.key])


def living(versions: DataFrame, source: Source) -> DataFrame:
    """The latest version of each row that is not deleted."""
    return rules.latest(versions, (source.key,), F.col("row_version"), F.col("is_deleted")).where("NOT is_deleted")


def append(run: job.Job, source: Source, versions: Slice, *, is_deleted: bool) -> None:
    if versions.is_nothing or versions.frame is None:
        return
    now = F.current_timestamp()
    rows = versions.frame.withColumn("is_deleted", F.lit(is_deleted)).withColumn("ingested_at", now)
    rows.writeTo(run.path(source.target)).append()
    # what is not held here is read from the source once more, where it may be less by then, or known by now
    held = versions.known is not None
    written = versions.count() if held else rows_of_last_commit(run, source.target)
    outcome = run.outcome
    outcome.rows_out[source.target] = outcome.rows_out.get(source.target, 0) + written
    outcome.rows_in[source.table] = outcome.rows_in.get(source.table, 0) + written


def forget(run: job.Job, source: Source, database: Database, high: int) -> None:
    """Delete what a source that was restored has lost: versions that it has not given (yet), whose numbers it will give
    again, and versions of a row, its deletion too, that are later than the one it has."""
    table = run.path(source.target)
    versions = database.rows(database.dialect.versions(source.table, {source.key: source.columns[source.key]}, 0, high))
    has = versions.select(_typed(source, source.key), F.col("row_version").cast("bigint").alias("has"))
    held = run.table(source.target)
    lost = held.join(has, source.key).where("row_version > has").select(source.key, "row_version")
    lost = lost.union(held.where(f"row_version >= {high}").select(source.key, "row_version")).distinct()
    if lost.isEmpty():
        return
    lost.createOrReplaceTempView("lost_versions")
    run.spark.conf.set(USER_METADATA, f"{ERASURE} of versions that {source.table} has lost in a restore")
    try:
        run.spark.sql(
            f"MERGE INTO {table} AS held USING lost_versions AS lost"
            f" ON held.{source.key} = lost.{source.key} AND held.row_version = lost.row_version"
            " WHEN MATCHED THEN DELETE"
        ).collect()
    finally:
        run.spark.conf.unset(USER_METADATA)


def _typed(source: Source, name: str) -> Column:
    return F.col(name).cast(source.columns[name]).alias(name)


def arguments(name: str) -> argparse.ArgumentParser:
    parser = job.parser(name)
    parser.add_argument("--jdbc-url", required=True)
    parser.add_argument("--sql-user", required=True, help="its password: FITNESS_SQL_PASSWORD or the secret scope")
    return parser
