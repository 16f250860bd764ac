"""What one batch of heart-rate messages does to the tables, as functions from DataFrame to DataFrame.

A reading's key is (device_id, read_at). `judged` holds, for the minutes that a batch touches, what the table holds
already and what the batch brings, with one outcome a row; everything that is written follows from it, so a batch that
is run again after dying at any point finds its own rows in the table, changes nothing and completes what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

MINUTE = 60  # seconds

KNOWN, NEW, DUPLICATE, CONFLICT = "known", "new", "duplicate", "conflicting_reading"

# Delta can skip files by a handful of ranges on read_at; more of them cost planning time and skip little more.
MOST_RANGES = 12


def minute_number(read_at: Column) -> Column:
    """Minutes since 1970, an integer."""
    return F.floor(F.unix_seconds(read_at) / F.lit(MINUTE)).cast("bigint")


def ranges(minutes: Iterable[int], most: int = MOST_RANGES) -> list[tuple[int, int]]:
    """At most `most` half-open ranges of minute numbers that cover `minutes`, split at the widest gaps."""
    ordered = sorted(set(minutes))
    if not ordered:
        return []
    gaps = sorted(range(1, len(ordered)), key=lambda i: ordered[i] - ordered[i - 1], reverse=True)
    splits = sorted(i for i in gaps[: most - 1] if ordered[i] - ordered[i - 1] > 1)
    starts, ends = [0, *splits], [*splits, len(ordered)]
    return [(ordered[start], ordered[end - 1] + 1) for start, end in zip(starts, ends, strict=True)]


def within(column: str, bounds: Iterable[tuple[int, int]]) -> str:
    """SQL condition: `column` (a TIMESTAMP) lies in one of the ranges. Literals, because only those skip files."""
    return " OR ".join(f"({column} >= {_literal(start)} AND {column} < {_literal(end)})" for start, end in bounds)


def _literal(minute: int) -> str:
    return f"TIMESTAMP '{datetime.fromtimestamp(minute * MINUTE, UTC):%Y-%m-%d %H:%M:%S}Z'"


def judged(accepted: DataFrame, silver: DataFrame, bounds: list[tuple[int, int]]) -> DataFrame:
    """Readings known and arrived in the touched (device, minute)s, with `outcome`.

    `accepted`: device_id, read_at, bpm, topic, partition, offset, kafka_timestamp, key, value.
    What the table holds stands. Among the rest the first to arrive is `new`; the same value again is a `duplicate`,
    another value is a `conflicting_reading`. One shuffle, by (device_id, minute): the windows and the trends share it.
    """
    arrived = accepted.withColumn("minute", minute_number(F.col("read_at"))).withColumn("known", F.lit(False))
    touched = arrived.select("device_id", "minute").distinct()
    known = (
        silver.where(within("read_at", bounds))
        .select("device_id", "read_at", "bpm", minute_number(F.col("read_at")).alias("minute"))
        .join(F.broadcast(touched), ["device_id", "minute"], "left_semi")
        .withColumn("known", F.lit(True))
    )
    same_reading = Window.partitionBy("device_id", "minute", "read_at").orderBy(
        F.desc("known"), "kafka_timestamp", "partition", "offset"
    )
    stands = F.first("bpm").over(same_reading)
    outcome = (
        F.when(F.col("known"), KNOWN)
        .when(F.row_number().over(same_reading) == 1, NEW)
        .when(F.col("bpm") == stands, DUPLICATE)
        .otherwise(CONFLICT)
    )
    return (
        arrived.unionByName(known, allowMissingColumns=True)
        .repartition("device_id", "minute")
        .select("*", outcome.alias("outcome"), stands.alias("standing_bpm"))
    )


def new_readings(rows: DataFrame) -> DataFrame:
    """The rows that silver.heart_rate gains."""
    return rows.where(F.col("outcome") == NEW).select("device_id", "read_at", "bpm")


def conflicts(rows: DataFrame) -> DataFrame:
    """Later readings of an instant whose value differs from the one that stands."""
    detail = F.format_string("%s bpm, but %s bpm arrived before", F.col("bpm"), F.col("standing_bpm"))
    return rows.where(F.col("outcome") == CONFLICT).select(
        "topic", "partition", "offset", F.col("outcome").alias("reason"), detail.alias("detail"), "key", "value"
    )


def trends(readings: DataFrame) -> DataFrame:
    """device_id, minute, min_bpm, avg_bpm, max_bpm, readings of distinct `readings` (device_id, minute number, bpm).

    The average is order-free: decimals add up exactly, doubles do not.
    """
    return (
        readings.groupBy("device_id", "minute")
        .agg(
            F.min("bpm").alias("min_bpm"),
            (F.sum(F.col("bpm").cast("decimal(15,12)")).cast("double") / F.count("*")).alias("avg_bpm"),
            F.max("bpm").alias("max_bpm"),
            F.count("*").alias("readings"),
        )
        .withColumn("minute", F.timestamp_seconds(F.col("minute") * MINUTE))
    )


def standing(rows: DataFrame) -> DataFrame:
    """What silver.heart_rate holds of the touched minutes once the batch is in."""
    return rows.where(F.col("outcome").isin(KNOWN, NEW))
