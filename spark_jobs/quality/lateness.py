"""`ops.lateness`, `ops.late_changes`, `ops.unknown_fields`: how late records came, what in gold that changed, and
fields that nobody reads.

Of what arrived in bronze, and of what changed in gold, since the last good run. Lateness is counted from what a record
tells of (a reading's time, a visit's logout or login, ...) to its arrival in Kafka, or in bronze for SQL tables.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job
from spark_jobs.incremental import changes, is_gone
from spark_jobs.job import LastRun
from spark_jobs.messages import PROFILE, parse_profile_changes, parse_workouts
from spark_jobs.slices import literal
from spark_jobs.streaming import readings
from spark_jobs.versions import judge_registrations, judge_visits

NAME = "quality.lateness"
LATENESS, LATE_CHANGES, UNKNOWN_FIELDS = "ops.lateness", "ops.late_changes", "ops.unknown_fields"
MULTIPLEX = "bronze.kafka_multiplex"
logger = logging.getLogger("fitness")
LONGEST_NAME, MOST_FIELDS = 200, 100  # a hostile producer can think of any number of fields


@dataclass(frozen=True)
class Arrivals:
    """Records of one source: `judged` adds `reason`; `event` (SQL) and `arrival` are its times. Of a topic: where the
    fields of its messages are (JSON path), and which are known."""

    source: str
    bronze: str
    where: str
    judged: Callable[[DataFrame], DataFrame]
    event: str
    arrival: str = "kafka_timestamp"
    fields_at: str = "$"
    fields: tuple[str, ...] = ()


ARRIVALS = (
    Arrivals("bpm", MULTIPLEX, "topic = 'bpm'", readings.parsed, "read_at",
             fields=("device_id", "time", "heartrate")),
    Arrivals("workout", MULTIPLEX, "topic = 'workout'", parse_workouts, "occurred_at",
             fields=("user_id", "workout_id", "session_id", "action", "timestamp")),
    Arrivals("user_profile", MULTIPLEX, "topic = 'user_profile'", parse_profile_changes,
             "coalesce(changed_at, committed_at)", fields_at="$.after",
             fields=("user_id", *PROFILE, "changed_at")),
    Arrivals("app.registered_users", "bronze.registrations", "NOT is_deleted", judge_registrations,
             "registered_at", "ingested_at"),
    Arrivals("app.gym_visits", "bronze.gym_visits", "NOT is_deleted", judge_visits,
             "coalesce(logout_at, login_at)", "ingested_at"),
)  # fmt: skip
DAYS = {
    "gold.workout_summary": "to_date(started_at)",
    "gold.workout_completion": "workout_date",
    "gold.gym_activity": "activity_date",
    "gold.user_activity": "activity_date",
    "gold.bpm_trends": "to_date(minute)",
}


def look(run: job.Job) -> None:
    if run.rebuild:
        raise ValueError("What has been looked at is counted; looking again would count it twice.")
    bronze = sorted({arrivals.bronze for arrivals in ARRIVALS})
    news = changes(run, dict.fromkeys([*bronze, *DAYS], "TRUE"))
    run.outcome.source_versions |= news.versions
    if news.everything:
        run.outcome.mode = "everything"
    changed: dict[str, DataFrame] = {}
    if not news.everything:
        feeds = {name: feed.where("_change_type = 'insert'") for name, feed in news.feeds.items() if name in bronze}
        changed = {name: feed for name, feed in news.feeds.items() if name in DAYS}
    elif news.last is None:
        feeds = {name: run.table(name) for name in bronze}
    else:
        return  # a source was made anew: what was counted before cannot be told from what was not
    arrived = [
        (arrivals, feeds[arrivals.bronze].where(arrivals.where)) for arrivals in ARRIVALS if arrivals.bronze in feeds
    ]
    found = {
        LATE_CHANGES: [late_changes(feed, name) for name, feed in changed.items()],
        LATENESS: [lateness(records, arrivals) for arrivals, records in arrived],
        UNKNOWN_FIELDS: [unknown_fields(records, of) for of, records in arrived if of.fields],
    }
    try:
        told = {table: reduce(DataFrame.unionByName, frames).toArrow() for table, frames in found.items() if frames}
    except PySparkException as error:
        if not is_gone(error):
            raise
        run.outcome.mode = "everything"
        logger.warning("A change feed is gone; what came since the last look is not counted.")
        return
    for table, rows in told.items():
        _append(run, table, rows, news.last)


def lateness(records: DataFrame, of: Arrivals) -> DataFrame:
    """By arrival day and event day: how many, and how many seconds they took."""
    event = F.expr(of.event)
    seconds = (F.unix_micros(of.arrival) - F.unix_micros(event)) / 1e6
    told = of.judged(records).where("reason IS NULL").where(event.isNotNull())
    days = told.select(
        F.lit(of.source).alias("source"),
        F.to_date(of.arrival).alias("arrival_day"),
        F.to_date(event).alias("event_day"),
        seconds.alias("seconds"),
    ).groupBy("source", "arrival_day", "event_day")
    return days.agg(
        F.count("*").alias("records"),
        F.min("seconds").alias("min_seconds"),
        F.percentile_approx("seconds", 0.5).alias("median_seconds"),
        F.percentile_approx("seconds", 0.95).alias("p95_seconds"),
        F.max("seconds").alias("max_seconds"),
    )


def late_changes(feed: DataFrame, table: str) -> DataFrame:
    """Of a change feed of gold: changes of rows whose day was over, by day."""
    days = feed.select(
        "_change_type", F.to_date("_commit_timestamp").alias("changed_on"), F.expr(DAYS[table]).alias("row_day")
    )
    kinds = {"inserted": "insert", "updated": "update_postimage", "deleted": "delete"}
    return (
        days.where("row_day < changed_on AND _change_type <> 'update_preimage'")
        .groupBy(F.lit(table).alias("gold_table"), "changed_on", "row_day")
        .agg(*(F.count_if(F.col("_change_type") == kind).alias(name) for name, kind in kinds.items()))
    )


def unknown_fields(records: DataFrame, of: Arrivals) -> DataFrame:
    """Fields of accepted messages that are not of the contract, by name."""
    text = F.col("value").cast("string")
    worth_a_look = records.where(~text.rlike(readings.PLAIN)) if of.source == "bpm" else records
    inside = text if of.fields_at == "$" else F.get_json_object(text, of.fields_at)
    names = (
        of.judged(worth_a_look)
        .where("reason IS NULL")
        .select("kafka_timestamp", F.explode(F.json_object_keys(inside)).alias("name"))
    )
    return (
        names.where(~F.col("name").isin(*of.fields))
        .groupBy(F.lit(of.source).alias("topic"), F.substring("name", 1, LONGEST_NAME).alias("field"))
        .agg(F.count("*").alias("records"), F.min("kafka_timestamp").alias("first_seen"))
        .orderBy(F.desc("records"), "field")
        .limit(MOST_FIELDS)
    )


def _append(run: job.Job, table: str, rows: pa.Table, last: LastRun | None) -> None:
    """Append what was found, if anything, in place of what runs have appended that died since the last good one: they
    looked at the same."""
    run.outcome.rows_out[table] = rows.num_rows
    if rows.num_rows:
        since = "TRUE" if last is None else f"looked_at > {literal(last.clock)}"
        if not run.table(table).where(since).isEmpty():
            run.spark.sql(f"DELETE FROM {run.path(table)} WHERE {since}").collect()  # noqa: S608 - names are ours
        said = {"run_id": F.lit(run.run_id), "looked_at": F.lit(run.clock)}
        columns = run.table(table).columns
        run.spark.createDataFrame(rows).withColumns(said).select(*columns).writeTo(f"{run.catalog}.{table}").append()


def main(argv: list[str]) -> int:
    tables = [*{arrivals.bronze for arrivals in ARRIVALS}, *DAYS, LATENESS, LATE_CHANGES, UNKNOWN_FIELDS]
    return job.run(NAME, argv, look, tables)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
