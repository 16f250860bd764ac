"""`silver.users`: one row is a member.

Key: user_id. From `bronze.registrations`, whose versions this job also judges: refused ones go to `ops.quarantine`.
A member is who has an accepted version and whose latest one is no deletion; since when, says the earliest of all.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.slices import Slice
from spark_jobs.versions import REGISTRATIONS, judge_registrations

SOURCE = "bronze.registrations"


def members(versions: DataFrame) -> DataFrame:
    """Versions of registrations -> user_id, registered_at."""
    by_member = judge_registrations(versions).where("reason IS NULL").groupBy("user_id")
    is_gone = F.max_by("is_deleted", F.struct("row_version", "is_deleted")).alias("is_gone")
    since = F.min(F.when(~F.col("is_deleted"), F.col("registered_at"))).alias("registered_at")
    return by_member.agg(is_gone, since).where("NOT is_gone").select("user_id", "registered_at")


def touched(changes: Changes) -> list[DataFrame]:
    feed = changes.of(SOURCE)
    return [] if feed is None else [feed.select("user_id")]


def rows(run: job.Job, keys: Slice) -> DataFrame:
    return members(keys.among(run.table(SOURCE), "user_id"))


TABLE = Table(
    name="silver.users",
    key=("user_id",),
    row_key=("user_id",),
    clustering=("user_id",),
    sources={SOURCE: "TRUE"},
    touched=touched,
    rows=rows,
    intake=REGISTRATIONS,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
