"""Two sets of rows compared by key: what is missing, what should not be there, what is there twice, what differs.

A finding names keys and columns, never values: those are members' data, and findings are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.slices import Slice

RECONCILIATION = "ops.reconciliation"
SAMPLES = 5  # keys named of each kind of defect


class Kind(StrEnum):
    SAME = "same"
    MISSING = "missing"
    UNEXPECTED = "unexpected"
    DOUBLED = "doubled"
    CHANGED = "changed"


DEFECTS = (Kind.MISSING, Kind.UNEXPECTED, Kind.DOUBLED, Kind.CHANGED)


@dataclass(frozen=True)
class Finding:
    """What one comparison found. Counts are rows; of doubled rows those beyond the first. `pending`: rows that differ
    because the job that would make them equal has not read what is new, or a batch of the stream has not ended; no
    defect."""

    what: str
    scope: str
    expected: int = 0
    found: int = 0
    missing: int = 0
    unexpected: int = 0
    doubled: int = 0
    changed: int = 0
    pending: int = 0
    detail: str | None = None

    @property
    def defects(self) -> int:
        return self.missing + self.unexpected + self.doubled + self.changed

    @property
    def verdict(self) -> str:
        return "defect" if self.defects else "ok"

    def __str__(self) -> str:
        counts = ", ".join(f"{getattr(self, kind)} {kind}" for kind in DEFECTS if getattr(self, kind))
        return f"{self.what}, {self.scope}: {counts or 'equal'}" + (f" ({self.detail})" if self.detail else "")


def compared(wanted: DataFrame, existing: DataFrame, key: Sequence[str]) -> DataFrame:
    """Both by key (NULL equals NULL): the key's columns, `kind`, `copies` in `existing`, `differing` columns.

    `wanted` has each key once. Columns are those of `wanted`.
    """
    columns = wanted.columns
    left = wanted.select(F.struct(*columns).alias("_wanted"))
    counted = existing.groupBy(*key).agg(F.count(F.lit(1)).alias("copies"), F.min(F.struct(*columns)).alias("_found"))
    right = counted.select("copies", "_found")
    same = reduce(and_, (F.col(f"_wanted.{name}").eqNullSafe(F.col(f"_found.{name}")) for name in key))
    differing = [
        F.when(~F.col(f"_wanted.{name}").eqNullSafe(F.col(f"_found.{name}")), F.lit(name))
        for name in columns
        if name not in key
    ]
    kind = (
        F.when(F.col("_found").isNull(), str(Kind.MISSING))
        .when(F.col("_wanted").isNull(), str(Kind.UNEXPECTED))
        .when(F.col("copies") > 1, str(Kind.DOUBLED))
        .when(~F.col("_wanted").eqNullSafe(F.col("_found")), str(Kind.CHANGED))
        .otherwise(str(Kind.SAME))
    )
    return left.join(right, same, "full_outer").select(
        *(F.coalesce(f"_wanted.{name}", f"_found.{name}").alias(name) for name in key),
        kind.alias("kind"),
        F.coalesce("copies", F.lit(0)).alias("copies"),
        F.array_compact(F.array(*differing)).alias("differing")
        if differing
        else F.array().cast("array<string>").alias("differing"),
    )


def finding(
    what: str, scope: str, comparison: DataFrame, key: Sequence[str], pending: Callable[[], Slice] | None = None
) -> Finding:
    """Count what `compared` found, and name some keys. Differences at keys in `pending` are none.

    `pending` is asked only when something differs."""
    counts = _counted(comparison)
    total, rows = sum(number for _, number, _ in counts), sum(copies for *_, copies in counts)
    held = {kind: (number, copies) for kind, number, copies in counts}
    expected = total - held.get(Kind.UNEXPECTED, (0, 0))[0]
    if not any(kind in held for kind in DEFECTS):
        return Finding(what, scope, expected, rows)
    differences = comparison.where(F.col("kind") != Kind.SAME)
    if pending is not None:
        # held before it is asked what is pending: a source that goes on would differ in more when they are counted
        now = Slice.of(differences, unique=True, keys=key).frame
        assert now is not None
        differences = without(now, pending())
    lasting = {kind: (number, copies) for kind, number, copies in _counted(differences)}
    of = {str(kind): lasting.get(kind, (0, 0))[0] for kind in DEFECTS}
    of[Kind.DOUBLED] = lasting.get(Kind.DOUBLED, (0, 0))[1] - lasting.get(Kind.DOUBLED, (0, 0))[0]
    waiting = sum(held[kind][0] for kind in DEFECTS if kind in held) - sum(number for number, _ in lasting.values())
    return Finding(
        what, scope, expected, rows, **of, pending=waiting, detail=named(differences, key) if lasting else None
    )


def without(differences: DataFrame, keys: Slice) -> DataFrame:
    """Those whose key is not in the slice; columns that the slice does not have do not restrict."""
    if keys.is_everything:
        return differences.limit(0)
    if keys.is_nothing or keys.frame is None:
        return differences
    shared = [name for name in differences.columns if keys.has(name)]
    frame = keys.frame.select(*(F.col(name).alias(f"_{name}") for name in shared)).distinct()
    same = reduce(and_, (F.col(name).eqNullSafe(F.col(f"_{name}")) for name in shared))
    return differences.join(frame, same, "left_anti")


def named(differences: DataFrame, key: Sequence[str]) -> str:
    """Some keys of each kind, as text: `missing user_id=7, session_id=3; changed user_id=8 (status)`."""
    label = F.concat_ws(", ", *(_told(differences, name) for name in key))
    kinds = [differences.where(F.col("kind") == kind).limit(SAMPLES) for kind in DEFECTS]
    rows = reduce(DataFrame.union, kinds).select("kind", label.alias("label"), "differing").toArrow().to_pylist()
    return "; ".join(
        f"{row['kind']} {row['label']}"
        + (f" ({', '.join(row['differing'])})" if row["kind"] == Kind.CHANGED and row["differing"] else "")
        for row in rows
    )


def _told(rows: DataFrame, name: str) -> Column:
    value = F.hex(name) if dict(rows.dtypes)[name] == "binary" else F.col(name).cast("string")
    return F.concat(F.lit(f"{name}="), F.coalesce(value, F.lit("NULL")))


def _counted(comparison: DataFrame) -> list[tuple[str, int, int]]:
    """Kind, keys, rows found."""
    counts = comparison.groupBy("kind").agg(F.count(F.lit(1)).alias("number"), F.sum("copies").alias("copies"))
    return [(row["kind"], row["number"], row["copies"]) for row in counts.toArrow().to_pylist()]


def write(spark: SparkSession, catalog: str, run_id: str, checked_at: datetime, findings: Sequence[Finding]) -> None:
    """Append findings to `ops.reconciliation`."""
    table = f"{catalog}.{RECONCILIATION}"
    columns = spark.table(table).schema
    rows = [
        {"checked_at": checked_at, "run_id": run_id, "verdict": found.verdict}
        | {name: getattr(found, name) for name in columns.names if hasattr(found, name)}
        for found in findings
    ]
    spark.createDataFrame([tuple(row[name] for name in columns.names) for row in rows], columns).writeTo(table).append()
