"""`silver.heart_rate`: one row is an accepted reading.

Key: device_id, read_at. From `bronze.kafka_multiplex`, topic bpm: of the acceptable records that say a reading of this
device and time, the first to arrive. The always-on stream writes the table; this job rebuilds it
(spark_jobs/switch.py).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, switch
from spark_jobs.incremental import change_feed, version
from spark_jobs.slices import EVERYTHING, Slice
from spark_jobs.streaming import readings
from spark_jobs.streaming.batch import HEART_RATE, MULTIPLEX

PROGRESS = "ops.stream_progress"
TOPIC = "bpm"
READING = ("device_id", "read_at")
ARRIVAL = ("ingested_at", "kafka_timestamp", "partition", "offset")


@dataclass(frozen=True)
class Offsets:
    """From (inclusive) and to (exclusive) which offset each partition of the topic is looked at."""

    begin: dict[int, int]
    end: dict[int, int]

    @property
    def arrived(self) -> Column:
        """From the beginning on; a partition of which nothing is known yet is looked at whole."""
        before = [(F.col("partition") == number) & (F.col("offset") < begin) for number, begin in self.begin.items()]
        return ~reduce(or_, before, F.lit(False))

    @property
    def done(self) -> Column:
        """Before the end: all tables of the stream are complete up to there."""
        before = [(F.col("partition") == number) & (F.col("offset") < end) for number, end in self.end.items()]
        return reduce(or_, before, F.lit(False))


def mark(partition: int) -> str:
    return f"{MULTIPLEX}:{TOPIC}-{partition}"


def offsets(run: job.Job, read: dict[str, int]) -> Offsets:
    """From where was `read` (see `mark`) to what the stream has said to be done with."""
    ends = ends_of(run.table(PROGRESS))
    return Offsets({number: read.get(mark(number), 0) for number in ends}, ends)


def ends_of(progress: DataFrame) -> dict[int, int]:
    """Up to where, by partition, the stream is done with the topic, by rows of `ops.stream_progress`."""
    rows = progress.select(F.explode("end_offsets").alias("place", "end")).groupBy("place").agg(F.max("end"))
    return {int(place.rpartition("-")[2]): end for place, end in rows.collect() if place.rpartition("-")[0] == TOPIC}


def accepted(records: DataFrame, keys: Slice = EVERYTHING) -> DataFrame:
    """The acceptable ones among records of bronze, with device_id, read_at and bpm: of readings, devices or days."""
    records = records.where(F.col("topic") == TOPIC)
    for day in ("read_at", "day"):  # a reading is at most five minutes ahead of its arrival
        records = records.where(keys.from_day("(event_date + INTERVAL 1 DAY)", day))
    return switch.among(keys, readings.parsed(records).where("reason IS NULL"), READING)


def first_to_arrive(said: DataFrame, done: Column | None = None) -> DataFrame:
    """Of acceptable records the first of each reading: device_id, read_at, bpm, and what `done` says of it."""
    arrival = F.struct(*ARRIVAL)
    is_done = F.lit(True) if done is None else done
    return said.groupBy(*READING).agg(
        F.min_by("bpm", arrival).alias("bpm"), F.min_by(is_done, arrival).alias("is_done")
    )


def prepare(run: job.Job, asked: Slice) -> int:
    """Stage the readings that differ, as far as the stream has said to be done. Silver is looked at before bronze, so
    that each of its rows has its record there; meanwhile the batch that was under way ends."""
    extent = offsets(run, {})
    run.pins[HEART_RATE] = version(run, HEART_RATE)
    time.sleep(run.arguments.patience_seconds)
    run.pins[MULTIPLEX] = version(run, MULTIPLEX)
    wanted = first_to_arrive(accepted(run.table(MULTIPLEX), asked), extent.done)
    held = switch.among(asked, run.table(HEART_RATE), READING)
    differing = switch.different(wanted, held, READING, (*READING, "bpm")).where(
        "is_done OR wanted IS NULL OR copies > 1"
    )
    rows = differing.select("device_id", F.col("read_at").alias("at"), F.col("wanted.bpm").alias("bpm"))
    return switch.stage(run, HEART_RATE, rows, run.pins[MULTIPLEX])


def switch_rows(run: job.Job) -> None:
    """Put the staged readings in place; of those that nobody had said, the first record that has come since stands."""
    rows = switch.staged(run, HEART_RATE).withColumnRenamed("at", "read_at")
    seen = rows.agg(F.max("source_version")).collect()[0][0]
    if seen is None:
        return
    keys = Slice.of(rows.select(*READING), unique=True)
    wanted, latest = rows.select(*READING, "bpm"), version(run, MULTIPLEX)
    if latest > seen:
        news = change_feed(run, MULTIPLEX, seen + 1, latest).where("_change_type = 'insert'")
        since = first_to_arrive(accepted(news, keys)).select(*READING, F.col("bpm").alias("since"))
        wanted = wanted.join(since, list(READING), "left").select(*READING, F.coalesce("bpm", "since").alias("bpm"))
    switch.put_in_place(run, HEART_RATE, READING, keys, wanted.where("bpm IS NOT NULL"))


def main(argv: list[str]) -> int:
    return switch.main(HEART_RATE, argv, prepare, switch_rows, [MULTIPLEX, PROGRESS])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
