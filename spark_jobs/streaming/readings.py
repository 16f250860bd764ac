"""What one batch of heart-rate messages does to the tables, as functions from DataFrame to DataFrame.

A reading's key is (device_id, read_at). `judged` gives each reading that a batch brings one outcome; everything that is
written follows from it and from what the table holds, so a batch that is run again after dying at any point finds its
own rows in the table, changes nothing and completes what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs import slices
from spark_jobs.messages import (
    FUTURE,
    HIGHEST_BPM,
    LOWEST_BPM,
    MICROS,
    PLACE,
    READING_FIELDS,
    YEAR_2000,
    read_strictly,
    unfolded,
)
from spark_jobs.rules import average

MINUTE = 60  # seconds
FEW_DEVICES = 64  # of a span of minutes, which are named, so that the rows of all others are not read

KNOWN, NEW, DUPLICATE, CONFLICT = "known", "new", "duplicate", "conflicting_reading"

# A reading as devices write it: the contract's three fields in its order, plain numbers, nothing else. What has this
# shape and plausible values is accepted by the strict rules too (a test holds that), at several times their cost.
PLAIN = (
    r"\A\{ ?\"device_id\" ?: ?(0|[1-9][0-9]{0,17}), ?\"time\" ?: ?([1-9][0-9]{8,9}(\.[0-9]{1,6})?),"
    r" ?\"heartrate\" ?: ?([1-9][0-9]{1,2}(\.[0-9]{1,17})?) ?\}\z"
)


def parsed(records: DataFrame) -> DataFrame:
    """`parse_readings` with a short cut: plain readings are read by their shape, all others by the strict rules."""
    text = F.col("value").cast("string")
    fields = F.when(text.rlike(PLAIN), F.split(text, "[:,}]"))
    newest = F.unix_micros("kafka_timestamp") + FUTURE
    plain = F.col("_micros").between(YEAR_2000, newest) & (F.col("_bpm") > LOWEST_BPM) & (F.col("_bpm") <= HIGHEST_BPM)
    short = (
        records.withColumn("_fields", fields)
        .withColumn("_device_id", F.trim(F.col("_fields")[1]).cast("bigint"))
        .withColumn("_micros", (F.trim(F.col("_fields")[3]).cast("decimal(16,6)") * MICROS).cast("bigint"))
        .withColumn("_bpm", F.trim(F.col("_fields")[5]).cast("double"))
    )
    as_shaped = F.struct(
        F.col("_device_id").alias("device_id"),
        F.timestamp_micros("_micros").alias("read_at"),
        F.col("_bpm").alias("bpm"),
        F.lit(None).cast("string").alias("fault"),
    )
    return unfolded(short, records.columns, F.when(plain, as_shaped).otherwise(read_strictly()), READING_FIELDS)


def minute_number(read_at: Column) -> Column:
    """Minutes since 1970, an integer."""
    return F.floor(F.unix_seconds(read_at) / F.lit(MINUTE)).cast("bigint")


def by_minute(parsed: DataFrame) -> DataFrame:
    """Records -> one row a minute of accepted readings, and one (`minute` NULL) of the refused: minute, records,
    refused, first_offset, last_offset, front (latest event time, microseconds) and `devices`, some of them when they
    are not few."""
    minute = F.when(F.col("reason").isNull(), minute_number(F.col("read_at")))
    return parsed.groupBy(minute.alias("minute")).agg(
        F.count("*").alias("records"),
        F.count("reason").alias("refused"),
        F.min("offset").alias("first_offset"),
        F.max("offset").alias("last_offset"),
        F.unix_micros(F.max("read_at")).alias("front"),
        F.slice(F.collect_set("device_id"), 1, FEW_DEVICES + 1).alias("devices"),
    )


@dataclass(frozen=True)
class Span:
    """Minutes (numbers) from `first` to before `end`, and the devices that matter there; None: any."""

    first: int
    end: int
    devices: frozenset[int] | None = None


def spans(touched: Mapping[int, Collection[int]]) -> list[Span]:
    """A few spans that cover the minutes in `touched`, each with its devices.

    Most readings are of the last minutes and of all devices; the late ones are of few devices each.
    """
    found = []
    for first, end in slices.ranges((minute, minute + 1) for minute in touched):
        there = (devices for minute, devices in touched.items() if first <= minute < end)
        devices: frozenset[int] = frozenset().union(*there)
        found.append(Span(first, end, devices if len(devices) <= FEW_DEVICES else None))
    return found


def within(found: Iterable[Span], moment: str, device: str) -> str:
    """SQL condition: the columns `moment` (a TIMESTAMP) and `device` lie in a span. Literals, because only those skip
    files; the latest span first, where most rows are, for which the others need not be looked at."""
    latest_first = sorted(found, key=lambda span: span.first, reverse=True)
    return " OR ".join(f"({' AND '.join(_limits(span, moment, device))})" for span in latest_first)


def _limits(span: Span, moment: str, device: str) -> Iterable[str]:
    yield f"{moment} >= {_start(span.first)}"
    yield f"{moment} < {_start(span.end)}"
    if span.devices is not None:
        yield f"{device} IN ({', '.join(map(slices.literal, sorted(span.devices)))})"


def _start(minute: int) -> str:
    return slices.literal(datetime.fromtimestamp(minute * MINUTE, UTC))


def held(silver: DataFrame, accepted: DataFrame, found: list[Span]) -> DataFrame:
    """What the table holds of the devices and minutes in `accepted`, which lie in the spans `found`: device_id,
    read_at, bpm, minute.

    Read now, whatever is written before it is used, and cut off from the table: when a table is written, Spark drops
    what it has kept of anything that is made of it.
    """
    touched = accepted.select("device_id", "minute").distinct()  # few, so that they can go to where the rows are
    return (
        silver.where(within(found, "read_at", "device_id"))
        .select(*READING_FIELDS, minute_number(F.col("read_at")).alias("minute"))
        .join(F.broadcast(touched), ["device_id", "minute"], "left_semi")
        .localCheckpoint()
    )


def judged(accepted: DataFrame, held: DataFrame) -> DataFrame:
    """The readings that arrived, and of the same ones what the table holds, with `outcome`.

    `accepted`: device_id, read_at, bpm, minute, topic, partition, offset, kafka_timestamp.
    What the table holds stands. Among the rest the first to arrive is `new`; the same value again is a `duplicate`,
    another value is a `conflicting_reading`.
    """
    reading = ["device_id", "read_at"]
    same = held.join(F.broadcast(accepted.select(*reading)), reading, "left_semi")
    rows = accepted.withColumn("known", F.lit(False)).unionByName(
        same.withColumn("known", F.lit(True)), allowMissingColumns=True
    )
    in_turn = Window.partitionBy(*reading).orderBy(F.desc("known"), "kafka_timestamp", "partition", "offset")
    stands = F.first("bpm").over(in_turn)
    outcome = (
        F.when(F.col("known"), KNOWN)
        .when(F.row_number().over(in_turn) == 1, NEW)
        .when(F.col("bpm") == stands, DUPLICATE)
        .otherwise(CONFLICT)
    )
    return rows.select("*", outcome.alias("outcome"), stands.alias("standing_bpm"))


def new_readings(rows: DataFrame) -> DataFrame:
    """The rows that silver.heart_rate gains."""
    return rows.where(F.col("outcome") == NEW).select(*READING_FIELDS)


def conflicts(rows: DataFrame, records: DataFrame) -> DataFrame:
    """Those of the `records` that are later readings of an instant whose value differs from the one that stands."""
    detail = F.format_string("%s bpm, but %s bpm arrived before", F.col("bpm"), F.col("standing_bpm"))
    found = rows.where(F.col("outcome") == CONFLICT).select(
        *PLACE, F.col("outcome").alias("reason"), detail.alias("detail")
    )
    return records.drop("reason", "detail").join(F.broadcast(found), list(PLACE))


def trends(readings: DataFrame) -> DataFrame:
    """device_id, minute, min_bpm, avg_bpm, max_bpm, readings of distinct `readings` (device_id, minute number, bpm)."""
    return (
        readings.groupBy("device_id", "minute")
        .agg(
            F.min("bpm").alias("min_bpm"),
            average(F.col("bpm")).alias("avg_bpm"),
            F.max("bpm").alias("max_bpm"),
            F.count("*").alias("readings"),
        )
        .withColumn("minute", F.timestamp_seconds(F.col("minute") * MINUTE))
    )


def standing(rows: DataFrame, held: DataFrame) -> DataFrame:
    """What the table holds of the touched minutes once the batch is in: device_id, minute, bpm."""
    wanted = ("device_id", "minute", "bpm")
    return held.select(*wanted).union(rows.where(F.col("outcome") == NEW).select(*wanted))
