"""`silver.user_profile_changes`: one row is an accepted change of a profile, as Debezium told it.

Key: user_id, position. From topic `user_profile` in `bronze.kafka_multiplex`, whose records this job also judges:
refused ones go to `ops.quarantine`. It is to profiles what `silver.workout_events` is to sessions: parsed once, and
found by member, where bronze would have to be read whole.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, quarantine
from spark_jobs.incremental import Changes, Intake, Table, run_table
from spark_jobs.messages import PROFILE, parse_profile_changes
from spark_jobs.slices import Slice

SOURCE, TOPIC = "bronze.kafka_multiplex", "topic = 'user_profile'"
KEY = ("user_id", "position")
CARRIED = ("op", *PROFILE, "changed_at", "committed_at")


def accepted(records: DataFrame) -> DataFrame:
    """Records of topic user_profile -> accepted changes, each once."""
    return _once(parse_profile_changes(records).where("reason IS NULL AND NOT is_tombstone"))


def _once(changes: DataFrame) -> DataFrame:
    """Of what is said of one position the least, whatever came first."""
    said = changes.groupBy(*KEY).agg(F.min(F.struct(*CARRIED)).alias("_said"))
    return said.select(*KEY, *(F.col(f"_said.{column}").alias(column) for column in CARRIED))


def touched(changes: Changes) -> list[DataFrame]:
    feed = changes.of(SOURCE)
    # what an erasure deletes from bronze it deletes here itself
    return [] if feed is None else [accepted(feed.where("_change_type = 'insert'"))]


def rows(run: job.Job, keys: Slice) -> DataFrame:
    if not run.rebuild and keys.frame is not None and set(CARRIED) <= set(keys.columns):
        # as bronze has just told them, or before
        held = keys.among(run.table(TABLE.name), *KEY).select(*KEY, *CARRIED)
        return _once(keys.frame.select(*KEY, *CARRIED).union(held))
    return keys.among(accepted(run.table(SOURCE).where(TOPIC)), *KEY)


TABLE = Table(
    name="silver.user_profile_changes",
    key=KEY,
    row_key=KEY,
    clustering=("user_id",),
    sources={SOURCE: TOPIC},
    touched=touched,
    rows=rows,
    carried=CARRIED,
    intake=Intake(
        source=SOURCE,
        label="user_profile",
        judged=parse_profile_changes,
        refused=quarantine.refused_records,
        place="offset",
        ignored="is_tombstone",
    ),
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
