"""`ops.quarantine`: what was refused, with its bytes, its place and a reason from a closed list, once per record."""

from __future__ import annotations

from enum import StrEnum
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs import conflicts

QUARANTINE = "ops.quarantine"
MICROSECONDS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"  # Spark would write times with three digits
KAFKA = "kafka"


class Reason(StrEnum):
    """Why a record was refused. The list is closed: a new reason is added here, with its meaning in MEANINGS."""

    NO_VALUE = "no_value"
    INVALID_UTF8 = "invalid_utf8"
    MALFORMED_JSON = "malformed_json"
    DUPLICATE_KEY = "duplicate_key"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    INVALID_TIME = "invalid_time"
    OUT_OF_RANGE = "out_of_range"
    BEFORE_2000 = "before_2000"
    TOO_FAR_IN_FUTURE = "too_far_in_future"
    UNKNOWN_ACTION = "unknown_action"
    UNKNOWN_OPERATION = "unknown_operation"
    ENDS_BEFORE_START = "ends_before_start"
    CONFLICTING_READING = "conflicting_reading"


MEANINGS = {
    Reason.NO_VALUE: "The record has no value (on a topic where a tombstone says nothing).",
    Reason.INVALID_UTF8: "The bytes are not UTF-8.",
    Reason.MALFORMED_JSON: "Not one JSON value: broken, NaN, too deep, a number or name too long, more after it.",
    Reason.DUPLICATE_KEY: "An object, at any depth, has the same key twice.",
    Reason.NOT_AN_OBJECT: "The JSON value is no object.",
    Reason.MISSING_FIELD: "A field that must be there is missing or null.",
    Reason.WRONG_TYPE: "A field has another type: a number in quotes, an id that is no 64-bit integer, a boolean.",
    Reason.INVALID_TIME: "A text that should be a time is no ISO-8601 date and time with an offset.",
    Reason.OUT_OF_RANGE: "A value is outside of what it can be: 20 < bpm <= 250, years up to 9999.",
    Reason.BEFORE_2000: "A time is before 2000-01-01.",
    Reason.TOO_FAR_IN_FUTURE: "A reading is more than 5 minutes later than its arrival.",
    Reason.UNKNOWN_ACTION: "A workout event is neither start nor stop.",
    Reason.UNKNOWN_OPERATION: "A change event is neither create, update, delete nor snapshot read.",
    Reason.ENDS_BEFORE_START: "A visit's logout is before its login.",
    Reason.CONFLICTING_READING: "The device has said another value for the same instant before.",
}


def refused_records(records: DataFrame) -> DataFrame:
    """The refused among Kafka records (`reason` not NULL), as rows of `ops.quarantine`."""
    return records.where("reason IS NOT NULL").select(
        F.lit(KAFKA).alias("source"),
        "topic",
        "partition",
        "offset",
        F.lit(None).cast("bigint").alias("row_version"),
        "reason",
        "detail",
        "key",
        "value",
    )


def refused_versions(source: str, key: str, versions: DataFrame, fields: list[str]) -> DataFrame:
    """The refused among versions of SQL rows (`reason` not NULL), as rows of `ops.quarantine`.

    `key` is the source's primary key; `fields` are its columns, kept as JSON since there are no bytes.
    """
    return versions.where("reason IS NOT NULL").select(
        F.lit(source).alias("source"),
        F.lit(None).cast("string").alias("topic"),
        F.lit(None).cast("int").alias("partition"),
        F.lit(None).cast("bigint").alias("offset"),
        "row_version",
        "reason",
        "detail",
        F.col(key).cast("string").cast("binary").alias("key"),
        F.to_json(F.struct(*fields), {"timestampFormat": MICROSECONDS}).cast("binary").alias("value"),
    )


def append(spark: SparkSession, catalog: str, refused: DataFrame, among: Column | None) -> None:
    """Append those refused rows that `ops.quarantine` does not hold yet.

    `among` is a literal predicate on `ops.quarantine` that holds for all of them that it may hold, so that files
    outside are not read; None if it cannot hold any. Call it only when something was refused: an append of nothing is
    a commit too. Several jobs append: Delta refuses one that had looked before another's rows were there, and it looks
    again.
    """
    table = f"{catalog}.{QUARANTINE}"

    def write() -> None:
        new = refused if among is None else _unknown(refused, spark.table(table).where(among))
        new.withColumn("first_seen_at", F.current_timestamp()).writeTo(table).append()

    conflicts.retried(write)


def _unknown(refused: DataFrame, known: DataFrame) -> DataFrame:
    place = ("source", "topic", "partition", "offset", "row_version", "key")
    equal = {column: F.col(f"refused.{column}").eqNullSafe(F.col(f"known.{column}")) for column in (*place, "value")}
    # a topic that was made anew has other records at the same places; a row's fields may be written otherwise one day
    value = equal.pop("value") | (F.col("refused.source") != KAFKA)
    same = reduce(and_, equal.values()) & value
    return refused.alias("refused").join(known.select(*place, "value").alias("known"), same, "left_anti")
