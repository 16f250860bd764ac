"""`gold.bpm_trends`: one row is a minute of one device in which there are readings.

Key: device_id, minute. From `silver.heart_rate`. The always-on stream writes the table; this job rebuilds it, after
silver.heart_rate (spark_jobs/switch.py).
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, switch
from spark_jobs.incremental import change_feed, version
from spark_jobs.slices import Slice, literal
from spark_jobs.streaming import readings
from spark_jobs.streaming.batch import HEART_RATE, TRENDS

MINUTE = ("device_id", "minute")
ONE_MINUTE = timedelta(minutes=1)


def rows(run: job.Job, keys: Slice) -> DataFrame:
    """The trends of some minutes, devices or days."""
    silver = (
        run.table(HEART_RATE)
        .where(keys.within("device_id"))
        .where(keys.within("read_at", "minute", longer=ONE_MINUTE))
        .where(keys.on_days("read_at", "day"))
    )
    wanted = keys.among(silver.withColumn("minute", F.date_trunc("minute", "read_at")), *MINUTE)
    return readings.trends(wanted.withColumn("minute", readings.minute_number(F.col("read_at"))))


def minutes(of_readings: DataFrame, read_at: str = "read_at") -> DataFrame:
    """The minutes that readings touch."""
    return of_readings.select("device_id", F.date_trunc("minute", read_at).alias("minute"))


def prepare(run: job.Job, asked: Slice) -> int:
    """Stage the minutes that differ from silver as it is. Those that the stream touches meanwhile it recomputes itself,
    and may have written into one table and not yet into the other."""
    seen = version(run, HEART_RATE)
    run.pins[HEART_RATE] = seen
    time.sleep(run.arguments.patience_seconds)
    run.pins[TRENDS] = version(run, TRENDS)
    gold = run.table(TRENDS)
    wrong = switch.different(rows(run, asked), switch.among(asked, gold, MINUTE), MINUTE, gold.columns)
    if not wrong.isEmpty():
        time.sleep(run.arguments.patience_seconds)
    latest = version(run, HEART_RATE)
    if latest > seen:
        touched = minutes(change_feed(run, HEART_RATE, seen + 1, latest)).distinct().withColumn("in_flux", F.lit(True))
        wrong = wrong.join(touched, list(MINUTE), "left").where("in_flux IS NULL OR copies > 1")
    found = wrong.select("device_id", F.col("minute").alias("at"), F.lit(None).alias("bpm"))
    return switch.stage(run, TRENDS, found, seen)


def switch_rows(run: job.Job) -> None:
    """Put the staged minutes in place, and those of the readings that have been; then nothing is staged any more."""
    own = switch.staged(run, TRENDS).select("device_id", F.col("at").alias("minute"))
    keys = Slice.of(own.union(minutes(switch.staged(run, HEART_RATE), "at")))
    if keys.is_nothing:
        return
    switch.put_in_place(run, TRENDS, MINUTE, keys, rows(run, keys))
    rebuild = literal(run.arguments.rebuild)
    run.spark.sql(f"DELETE FROM {run.path(switch.DIFFERENCES)} WHERE rebuild = {rebuild}").collect()  # noqa: S608


def main(argv: list[str]) -> int:
    return switch.main(TRENDS, argv, prepare, switch_rows, [HEART_RATE])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
