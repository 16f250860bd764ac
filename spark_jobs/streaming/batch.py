"""One batch of heart-rate records into the tables: what is written, how it is written once, and what it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs import quarantine
from spark_jobs.conflicts import retried
from spark_jobs.job import instant
from spark_jobs.messages import PLACE, READING_FIELDS
from spark_jobs.streaming import readings
from spark_jobs.streaming.heartbeat import now_utc
from spark_jobs.streaming.limits import RefusalLimit
from spark_jobs.streaming.readings import Span

MULTIPLEX, HEART_RATE, TRENDS = "bronze.kafka_multiplex", "silver.heart_rate", "gold.bpm_trends"
RECORD = ("topic", "partition", "offset", "kafka_timestamp", "key", "value", "headers")
ROWS_PER_FILE = 100_000  # a smaller batch makes one file a table


class Paused(Exception):
    """A batch that was not begun, because too much of it would be refused."""


@dataclass(frozen=True)
class Seen:
    """What a batch brings: how many records, their first and last offset, the latest event time among the accepted
    (microseconds), and what the accepted touch."""

    records: int
    refused: int
    first_offset: int
    last_offset: int
    front: int | None
    spans: list[Span]

    @classmethod
    def of(cls, parsed: DataFrame) -> Seen:
        rows = readings.by_minute(parsed).collect()
        accepted = [row for row in rows if row.minute is not None]
        return cls(
            records=sum(row.records for row in rows),
            refused=sum(row.refused for row in rows),
            first_offset=min((row.first_offset for row in rows), default=0),
            last_offset=max((row.last_offset for row in rows), default=0),
            front=max((row.front for row in accepted), default=None),
            spans=readings.spans({row.minute: row.devices for row in accepted}),
        )


@dataclass
class Report:
    """What one batch did. Durations in milliseconds by phase; phases overlap."""

    number: int
    started_at: datetime
    rows: dict[str, int] = field(default_factory=dict)  # in, accepted, duplicate, quarantined
    durations_ms: dict[str, int] = field(default_factory=dict)
    front: datetime | None = None  # the latest event time among the accepted
    finished_at: datetime | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.durations_ms[name] = round(1000 * (time.monotonic() - begun))

    @property
    def seconds(self) -> float:
        return ((self.finished_at or now_utc()) - self.started_at).total_seconds()

    def document(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "rows": self.rows,
            "durations_ms": self.durations_ms,
            "front": self.front.isoformat() if self.front else None,
        }


@dataclass
class Batch:
    """Writes one batch of records to the tables. `transaction` names the checkpoint.

    `held_to`: by partition, up to which offset records may be in the tables from a checkpoint that is no more.
    `register` makes a table known that few batches write.
    """

    catalog: str
    limit: RefusalLimit = field(default_factory=RefusalLimit)
    held_to: Mapping[int, int] = field(default_factory=dict)
    transaction: str = ""
    clock: Callable[[], datetime] = now_utc
    register: Callable[[str], None] = lambda table: None

    def write(self, parsed: DataFrame, number: int) -> Report:
        """Everything, in any order: each write is complete in itself and skipped when this batch has done it before.

        `parsed`: RECORD and what `readings.parsed` adds. Planning is what a small batch costs, so the parsing belongs
        before the batch: inside it each of the plans that follow would carry it along.

        Raises Paused before the first write when more would be refused than `limit` allows.
        """
        report = Report(number, self.clock())
        spark = parsed.sparkSession
        spark.conf.set("spark.databricks.delta.write.txnAppId", self.transaction)
        spark.conf.set("spark.databricks.delta.write.txnVersion", str(number))
        # a topic has more partitions than so few records need tasks
        parsed = parsed.coalesce(int(spark.conf.get("spark.sql.shuffle.partitions") or 1)).persist()
        rows = None
        try:
            with report.phase("parse"):
                seen = Seen.of(parsed)
                doubtful = self._may_be_held(parsed, seen)
            if why := self.limit.exceeded_by(seen.records, seen.refused):
                raise Paused(f"{why}; batch {number} was not begun.")
            report.front = None if seen.front is None else instant(seen.front)
            with ThreadPoolExecutor(4, "write") as writers:
                deeds = [writers.submit(self._multiplex, report, spark, parsed, seen.records, doubtful)]
                conflicts = None
                counts = dict.fromkeys((readings.NEW, readings.DUPLICATE, readings.CONFLICT), 0)
                if seen.spans:
                    # without the bytes of each record, which would be sorted along for the few that contradict others
                    accepted = parsed.where("reason IS NULL").select(
                        *READING_FIELDS,
                        *PLACE,
                        "kafka_timestamp",
                        readings.minute_number(F.col("read_at")).alias("minute"),
                    )
                    with report.phase("judge"):
                        held = readings.held(spark.table(f"{self.catalog}.{HEART_RATE}"), accepted, seen.spans)
                        rows = readings.judged(accepted, held).persist()
                        deeds.append(writers.submit(self._trends, report, rows, held, seen.spans))
                        counts |= {row.outcome: row["count"] for row in rows.groupBy("outcome").count().collect()}
                    if counts[readings.NEW]:
                        deeds.append(writers.submit(self._heart_rate, report, rows, counts[readings.NEW]))
                    if counts[readings.CONFLICT]:
                        conflicts = readings.conflicts(rows, parsed)
                if seen.refused or conflicts is not None:
                    refused = seen.refused + counts[readings.CONFLICT]
                    deeds.append(writers.submit(self._quarantine, report, spark, parsed, conflicts, refused, doubtful))
                for deed in deeds:
                    deed.result()
        finally:
            parsed.unpersist()
            if rows is not None:
                rows.unpersist()
        report.rows = {
            "in": seen.records,
            "accepted": counts[readings.NEW],
            "duplicate": counts[readings.DUPLICATE],
            "quarantined": seen.refused + counts[readings.CONFLICT],
        }
        report.finished_at = self.clock()
        return report

    def _may_be_held(self, parsed: DataFrame, seen: Seen) -> Column | None:
        """Where a checkpoint that is no more may have written some of a batch's records; None: it has written none."""
        if not seen.records or seen.first_offset > max(self.held_to.values(), default=-1):
            return None
        extents = parsed.groupBy("partition").agg(F.min("offset"), F.max("offset")).collect()
        spans = [(number, first, min(last, self.held_to.get(number, -1))) for number, first, last in extents]
        places = [
            (F.col("partition") == number) & F.col("offset").between(first, last)
            for number, first, last in spans
            if first <= last
        ]
        return reduce(or_, places) if places else None

    def _multiplex(
        self,
        report: Report,
        spark: SparkSession,
        parsed: DataFrame,
        count: int,
        doubtful: Column | None,
    ) -> None:
        records = parsed.select(
            *RECORD,
            F.lit(report.started_at).alias("ingested_at"),
            F.to_date("kafka_timestamp").alias("event_date"),
        )
        table = f"{self.catalog}.{MULTIPLEX}"

        def write() -> None:
            new = records
            if doubtful is not None:
                # a topic that was made anew has other records at the same places
                same = [*PLACE, "kafka_timestamp"]
                held = spark.table(table).where("topic = 'bpm'").where(doubtful)
                new = records.join(held.select(*same), same, "anti").select(*records.columns)
            _append(new, table, count, note_of(self.transaction, report.number))

        with report.phase("multiplex"):
            retried(write)  # who looks at what is held may lose to a packing

    def _heart_rate(self, report: Report, rows: DataFrame, new: int) -> None:
        with report.phase("heart_rate"):
            _append(readings.new_readings(rows), f"{self.catalog}.{HEART_RATE}", new)

    def _quarantine(
        self,
        report: Report,
        spark: SparkSession,
        parsed: DataFrame,
        conflicts: DataFrame | None,
        count: int,
        doubtful: Column | None,
    ) -> None:
        refused = quarantine.refused_records(parsed)
        if conflicts is not None:
            refused = refused.unionByName(quarantine.refused_records(conflicts))
        among = None if doubtful is None else (F.col("source") == quarantine.KAFKA) & doubtful
        with report.phase("quarantine"):
            self.register(quarantine.QUARANTINE)
            quarantine.append(spark, self.catalog, _in_few_files(refused, count), among)

    def _trends(self, report: Report, rows: DataFrame, held: DataFrame, spans: list[Span]) -> None:
        """Recompute the touched minutes and write those that differ; only touched files are read."""
        readings.trends(readings.standing(rows, held)).createOrReplaceTempView("touched_trends")
        columns = ("min_bpm", "avg_bpm", "max_bpm", "readings")
        differs = " OR ".join(f"held.{column} <> touched.{column}" for column in columns)
        with report.phase("trends"):
            rows.sparkSession.sql(
                f"MERGE INTO {self.catalog}.{TRENDS} AS held USING touched_trends AS touched"
                f" ON held.device_id = touched.device_id AND held.minute = touched.minute"
                f" AND ({readings.within(spans, 'held.minute', 'held.device_id')})"
                f" WHEN MATCHED AND ({differs}) THEN UPDATE SET *"
                f" WHEN NOT MATCHED THEN INSERT *"
            ).collect()


def note_of(transaction: str, number: int) -> str:
    """What a commit of bronze says of its batch."""
    return json.dumps({"transaction": transaction, "batch": number})


def batch_of(note: str | None) -> tuple[str, int]:
    """Name and number of the batch, by the note of a commit; another's commit is of no name."""
    try:
        said = json.loads(note or "")
        return said["transaction"], said["batch"]
    except (ValueError, TypeError, KeyError):
        return "", -1


def _append(rows: DataFrame, table: str, count: int, note: str = "") -> None:
    writer = _in_few_files(rows, count).writeTo(table)
    (writer.option("userMetadata", note) if note else writer).append()


def _in_few_files(rows: DataFrame, count: int) -> DataFrame:
    return rows.coalesce(1 + count // ROWS_PER_FILE)
