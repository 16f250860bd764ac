"""`silver.user_profile`: one row is the profile of a member as it is now.

Key: user_id. From `silver.user_profile_changes`: the latest change by its position in the source, not by arrival. If
that is a delete there is no row, and no late older change brings the member back.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.messages import PROFILE
from spark_jobs.slices import Slice

SOURCE = "silver.user_profile_changes"


def profiles(changes: DataFrame) -> DataFrame:
    """All changes of some members -> their profiles now."""
    now = rules.latest(changes, ("user_id",), F.col("position"))
    return now.where("op <> 'd'").select("user_id", *PROFILE, "changed_at")


def touched(changes: Changes) -> list[DataFrame]:
    feed = changes.of(SOURCE)
    return [] if feed is None else [feed.select("user_id")]


def rows(run: job.Job, keys: Slice) -> DataFrame:
    return profiles(keys.among(run.table(SOURCE), "user_id"))


TABLE = Table(
    name="silver.user_profile",
    key=("user_id",),
    row_key=("user_id",),
    clustering=("user_id",),
    sources={SOURCE: "TRUE"},
    touched=touched,
    rows=rows,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
