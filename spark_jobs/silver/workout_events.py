"""`silver.workout_events`: one row is an accepted start or stop of a session, however often it was said.

Key: all columns. From topic `workout` in `bronze.kafka_multiplex`, whose records this job also judges: refused ones go
to `ops.quarantine`.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame

from spark_jobs import job, quarantine
from spark_jobs.incremental import Changes, Intake, Table, run_table
from spark_jobs.messages import parse_workouts
from spark_jobs.slices import Slice

SOURCE, TOPIC = "bronze.kafka_multiplex", "topic = 'workout'"
EVENT = ("user_id", "workout_id", "session_id", "action", "occurred_at")


def accepted(records: DataFrame) -> DataFrame:
    """Records of topic workout -> accepted events, each once."""
    return parse_workouts(records).where("reason IS NULL").select(*EVENT).distinct()


def touched(changes: Changes) -> list[DataFrame]:
    feed = changes.of(SOURCE)
    # what an erasure deletes from bronze it deletes here itself
    return [] if feed is None else [accepted(feed.where("_change_type = 'insert'"))]


def rows(run: job.Job, keys: Slice) -> DataFrame:
    if not run.rebuild and keys.frame is not None and set(EVENT) <= set(keys.columns):
        return keys.frame  # as bronze has just told them
    return keys.among(accepted(run.table(SOURCE).where(TOPIC)), *EVENT)


TABLE = Table(
    name="silver.workout_events",
    key=EVENT,
    row_key=EVENT,
    clustering=("user_id", "session_id"),
    sources={SOURCE: TOPIC},
    touched=touched,
    rows=rows,
    intake=Intake(
        source=SOURCE,
        label="workout",
        judged=parse_workouts,
        refused=quarantine.refused_records,
        place="offset",
    ),
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
