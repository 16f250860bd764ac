"""How a table of the operational database gets to bronze: every version of its rows that a run sees, and deletions.

A run reads the rows whose version is at least the limit at which the last run stopped and below the present limit
(below which no transaction is in flight). A row that is there no more is appended once more, with its last values and
`is_deleted`. Versions that bronze has already are not appended again, so a run may be repeated.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.bronze import dialects
from spark_jobs.slices import Slice, literal

FETCH_SIZE = "10000"


@dataclass(frozen=True)
class Source:
    """`table`: in the operational database. `target`: in bronze. `columns`: those of the source, the key first."""

    table: str
    target: str
    columns: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.columns[0]

    @property
    def live(self) -> str:
        """Under which name a run's outcome keeps the number of rows that it knows to be in the source."""
        return f"{self.table} (rows)"


def main(source: Source, argv: Sequence[str]) -> int:
    arguments = job.parser(source.target)
    arguments.add_argument("--jdbc-url", required=True, help="the operational database")
    arguments.add_argument("--sql-user", required=True, help="its user; the password is the secret sql_password")
    return job.run(source.target, argv, functools.partial(extract, source=source), [source.target], arguments)


def extract(run: job.Job, source: Source) -> None:
    """Append to bronze what is new in the source."""
    dialect = dialects.of(run.arguments.jdbc_url)
    last = None if run.rebuild else run.last_run()
    since = last.source_versions.get(source.table, 0) if last else 0
    state = _query(run, dialect.state(source.table, since)).head()
    assert state is not None
    limit, appended = int(state["row_limit"]), 0
    live = last.source_versions.get(source.live) if last else None

    if state["fresh"]:
        fresh = _query(run, dialect.versions(source.table, source.columns, since, limit))
        fresh = fresh.withColumn("is_deleted", F.lit(False))
        keys = Slice.of(fresh.select(source.key))
        if live is not None:
            known = alive(keys.among(run.table(source.target), source.key), source.key)
            live += keys.count() - known.count()
        appended += _append(run, source, fresh, since)
    if live is None:
        live = alive(run.table(source.target), source.key).count()
    if live != state["settled"]:
        present = _query(run, dialect.keys(source.table, source.key))
        gone = deletions(run.table(source.target), present, source.key, limit)
        deleted = _append(run, source, gone, limit - 1)
        live -= deleted
        appended += deleted

    run.outcome.rows_in[source.table] = int(state["fresh"])
    run.outcome.rows_out[source.target] = appended
    run.outcome.source_versions |= {source.table: limit, source.live: live}


def alive(versions: DataFrame, key: str) -> DataFrame:
    """Of each key the latest version, if that is no deletion. A deletion comes after a row of the same version."""
    return rules.latest(versions, (key,), F.col("row_version"), F.col("is_deleted")).where("NOT is_deleted")


def deletions(versions: DataFrame, present: DataFrame, key: str, limit: int) -> DataFrame:
    """Versions that say which rows, known below `limit`, are not `present` any more.

    They get the highest settled version: above all that were seen of the row, and below any that may come if the row is
    inserted again.
    """
    gone = alive(versions, key).join(present.select(key), key, "left_anti")
    return gone.withColumns({"row_version": F.lit(limit - 1).cast("bigint"), "is_deleted": F.lit(True)})


def _query(run: job.Job, query: str) -> DataFrame:
    arguments = run.arguments
    return (
        run.spark.read.format("jdbc")
        .option("url", arguments.jdbc_url)
        .option("driver", dialects.of(arguments.jdbc_url).driver)
        .option("user", arguments.sql_user)
        .option("password", run.platform.secret(run.spark, "sql_password"))
        .option("fetchsize", FETCH_SIZE)
        .option("query", query)
        .load()
    )


def _append(run: job.Job, source: Source, versions: DataFrame, since: int) -> int:
    """Append those versions (none is below `since`) that the target does not hold; how many.

    An insert-only MERGE rather than an append: two runs at once cannot both insert the same version.
    """
    target = f"{run.catalog}.{source.target}"
    rows = versions.select(*source.columns, "row_version", "is_deleted").withColumn(
        "ingested_at", F.current_timestamp()
    )
    view = f"versions_of_{source.target.replace('.', '_')}"
    rows.createOrReplaceTempView(view)
    try:
        merged = run.spark.sql(
            f"""
            MERGE INTO {target} AS target USING {view} AS source
            ON target.{source.key} = source.{source.key} AND target.row_version = source.row_version
               AND target.is_deleted = source.is_deleted AND target.row_version >= {literal(since)}
            WHEN NOT MATCHED THEN INSERT *
            """
        ).head()
    finally:
        run.spark.catalog.dropTempView(view)
    return int(merged["num_inserted_rows"]) if merged else 0
