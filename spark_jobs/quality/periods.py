"""Periods that follow each other: of a member's profile without overlap and without a gap that no delete explains, of
a member's and of a device's wearing without overlap."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs.job import LastRun
from spark_jobs.quality.comparison import SAMPLES, Finding
from spark_jobs.quality.pinned import Pinned

HISTORY, CHANGES, DEVICES = "silver.user_profile_history", "silver.user_profile_changes", "silver.user_devices"


def audit(view: Pinned, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    if audited and all(audited.source_versions.get(name) == view.pins[name] for name in (HISTORY, DEVICES)):
        return [], {}  # nobody has written them since the last clean look
    history = view.table(HISTORY)
    deleted = view.table(CHANGES).where("op = 'd'").select("user_id").distinct()
    gaps = followed(history, "user_id").where("valid_to < next_from").join(deleted, "user_id", "left_anti")
    flags = history.where("is_current <> (valid_to IS NULL)").select("user_id", "valid_from")
    findings = [
        _finding("periods do not overlap", HISTORY, overlapping(history, "user_id")),
        _finding("periods have no gap without a delete", HISTORY, gaps),
        _finding("only the period without end is current", HISTORY, flags),
        _finding("a member's periods do not overlap", DEVICES, overlapping(view.table(DEVICES), "user_id")),
        _finding("a device's periods do not overlap", DEVICES, overlapping(view.table(DEVICES), "device_id")),
    ]
    return findings, {}


def followed(periods: DataFrame, *whose: str) -> DataFrame:
    """Periods with `next_from`, the beginning of the next one."""
    in_order = Window.partitionBy(*whose).orderBy("valid_from", F.col("valid_to").asc_nulls_last())
    return periods.withColumn("next_from", F.lead("valid_from").over(in_order))


def overlapping(periods: DataFrame, *whose: str) -> DataFrame:
    """Periods that are no periods, or go on beyond the beginning of the next one."""
    beyond = "next_from IS NOT NULL AND (valid_to IS NULL OR valid_to > next_from)"
    return followed(periods, *whose).where(f"valid_to <= valid_from OR {beyond}")


def _finding(what: str, table: str, wrong: DataFrame, key: Sequence[str] = ("user_id", "valid_from")) -> Finding:
    number = wrong.count()
    samples = wrong.select(*key).limit(SAMPLES).toArrow().to_pylist() if number else []
    detail = "; ".join(", ".join(f"{name}={row[name]}" for name in key) for row in samples)
    return Finding(what, table, changed=number, detail=detail or None)
