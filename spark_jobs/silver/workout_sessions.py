"""`silver.workout_sessions`: one row is a session.

Key: user_id, workout_id, session_id. From `silver.workout_events`: it starts with the earliest start, and ends with
the earliest stop from then until 3 h later. Without that it is open, and 3 h after its start abandoned; a stop without
a start is `stop_only`, ended at the earliest stop, until the start arrives. The clock changes rows only here, so
sessions whose 3 h ended since the last run are touched too.
"""

from __future__ import annotations

import sys
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.rules import LONGEST_SESSION, SESSION, THREE_HOURS
from spark_jobs.slices import Slice, literal

SOURCE = "silver.workout_events"


def sessions(events: DataFrame, now: datetime) -> DataFrame:
    """All events of some sessions -> these sessions as they are at `now`."""
    of_session = events.groupBy(*SESSION).agg(
        F.min(F.when(F.col("action") == "start", F.col("occurred_at"))).alias("started_at"),
        F.array_sort(F.collect_set(F.when(F.col("action") == "stop", F.col("occurred_at")))).alias("stops"),
    )
    latest_end = F.expr(f"started_at + {LONGEST_SESSION}")
    fitting = F.filter("stops", lambda stop: stop.between(F.col("started_at"), latest_end))
    first_stop = F.when(F.col("started_at").isNull(), F.try_element_at("stops", F.lit(1)))
    ended_at = F.coalesce(first_stop, F.try_element_at(fitting, F.lit(1)))
    status = (
        F.when(F.col("started_at").isNull(), "stop_only")
        .when(F.col("ended_at").isNotNull(), "completed")
        .when(F.expr(literal(now)) > latest_end, "abandoned")
        .otherwise("open")
    )
    return (
        of_session.withColumn("ended_at", ended_at)
        .withColumn("status", status)
        .select(*SESSION, "started_at", "ended_at", "status")
    )


def touched(changes: Changes) -> list[DataFrame]:
    frames = []
    if (feed := changes.of(SOURCE)) is not None:
        frames.append(feed.select(*SESSION))
    if changes.last is not None and changes.last.clock != changes.job.clock:
        earlier, later = sorted((changes.last.clock, changes.job.clock))
        turned = f"started_at BETWEEN {literal(earlier - THREE_HOURS)} AND {literal(later - THREE_HOURS)}"
        frames.append(
            changes.job.table("silver.workout_sessions")
            .where(f"{turned} AND status IN ('open', 'abandoned')")
            .select(*SESSION)
        )
    return frames


def rows(run: job.Job, keys: Slice) -> DataFrame:
    return sessions(keys.among(run.table(SOURCE), *SESSION), run.clock)


TABLE = Table(
    name="silver.workout_sessions",
    key=SESSION,
    row_key=SESSION,
    clustering=("user_id", "started_at"),
    sources={SOURCE: "TRUE"},
    touched=touched,
    rows=rows,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
