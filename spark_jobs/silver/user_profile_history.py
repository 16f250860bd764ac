"""`silver.user_profile_history`: one row is the profile of a member during a period (SCD2).

Key: user_id, valid_from. From `silver.user_profile_changes`. Periods of a member follow each other in source order
and never overlap, even where the clocks that wrote `changed_at` disagree: time only moves on. A period begins when the
profile changed (`changed_at`); a delete ends the last one when the source committed it (`committed_at`), and a profile
that is created again begins there at the earliest.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs import job
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.messages import PROFILE
from spark_jobs.slices import Slice

SOURCE = "silver.user_profile_changes"


def periods(changes: DataFrame) -> DataFrame:
    """All changes of some members -> periods. Of those that begin at one moment the last in source order stays."""
    in_order = Window.partitionBy("user_id").orderBy("position")
    moment = F.when(F.col("op") == "d", F.col("committed_at")).otherwise(F.col("changed_at"))
    begun = changes.withColumn(
        "valid_from", F.max(moment).over(in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    )
    ended = begun.withColumn("valid_to", F.lead("valid_from").over(in_order))
    return ended.where("op <> 'd' AND (valid_to IS NULL OR valid_to > valid_from)").select(
        "user_id", *PROFILE, "changed_at", "valid_from", "valid_to", F.col("valid_to").isNull().alias("is_current")
    )


def touched(changes: Changes) -> list[DataFrame]:
    feed = changes.of(SOURCE)
    return [] if feed is None else [feed.select("user_id")]


def rows(run: job.Job, keys: Slice) -> DataFrame:
    return periods(keys.among(run.table(SOURCE), "user_id"))


TABLE = Table(
    name="silver.user_profile_history",
    key=("user_id",),
    row_key=("user_id", "valid_from"),
    clustering=("user_id",),
    sources={SOURCE: "TRUE"},
    touched=touched,
    rows=rows,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
