"""The tables of the heart-rate stream: topic bpm in bronze against silver.heart_rate and ops.quarantine, and the
readings against gold.bpm_trends.

The stream writes the tables of a batch side by side, without a common commit. So of bronze only records are judged
that the stream has said to be done with (`ops.stream_progress`), and what differs in the other tables is looked at
again, at their latest versions, until it no longer differs or a batch would have ended long since. It is a defect if
the stream has ended a batch meanwhile, or has nothing to read; a batch that hangs or has died leaves it pending, for
the next run to look at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, kafka
from spark_jobs.gold import bpm_trends
from spark_jobs.gold.bpm_trends import MINUTE
from spark_jobs.job import LastRun
from spark_jobs.quality.comparison import SAMPLES, Finding, Kind, compared, finding
from spark_jobs.quality.pinned import PROGRESS, Pinned
from spark_jobs.quality.refused import RECORD, standing
from spark_jobs.quarantine import QUARANTINE
from spark_jobs.silver.heart_rate import READING, TOPIC, Offsets, accepted, ends_of, first_to_arrive, mark, offsets
from spark_jobs.slices import EVERYTHING, NOTHING, Slice
from spark_jobs.streaming import readings
from spark_jobs.streaming.batch import HEART_RATE, MULTIPLEX, TRENDS

ONE_HOUR = timedelta(hours=1)
PAUSE_SECONDS = 5.0
logger = logging.getLogger("fitness")

OPEN_BATCH = "the stream has more to read, and has ended no batch since"


def audit(view: Pinned, patience: float, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    """`patience`: seconds within which a batch that has begun has surely ended."""
    read = {} if audited is None or view.rebuild else audited.source_versions
    extent = offsets(view, read)
    looked_at = {mark(number): end for number, end in extent.end.items()}
    looked_at |= {name: view.pins[name] for name in (HEART_RATE, TRENDS)}
    looked_at[f"{QUARANTINE}:{TOPIC}"] = view.pins[QUARANTINE]
    bronze = view.table(MULTIPLEX).where(F.col("topic") == TOPIC)
    held = _changed(view, read.get(f"{QUARANTINE}:{TOPIC}"), QUARANTINE, f"topic = '{TOPIC}'")
    has_arrived = extent.arrived
    if view.rebuild and not view.rebuild.full:
        has_arrived = view.on_days(F.col("event_date"))
    elif held is not None:  # and what was refused before the stream was done with it
        refused = view.table(QUARANTINE).where(F.col("topic") == TOPIC).where(has_arrived)
        held = held.select(*RECORD).union(refused.select(*RECORD))
    places = EVERYTHING if held is None else Slice.of(held.select(*RECORD))
    arrived = bronze.where(has_arrived)
    if not (places.is_everything or places.is_nothing):
        arrived = arrived.union(places.among(bronze.where(~has_arrived), *RECORD))
    with job.kept(_judged(view, readings.parsed(arrived), extent)) as judged:
        said = _changed(view, read.get(HEART_RATE), HEART_RATE, "TRUE")
        findings = [
            _records(view, judged, places, extent),
            lasting(
                lambda now, keys: _readings(now, keys, extent),
                view,
                EVERYTHING if said is None else _doubted(judged, said),
                (HEART_RATE, READING),
                patience,
            ),
        ]
    findings.append(lasting(_trends, view, _minutes(view, read, said), (TRENDS, MINUTE), patience))
    if any(it.detail == OPEN_BATCH for it in findings):  # the next run begins where this one did
        looked_at = {name: number for name, number in read.items() if name in looked_at}
    return findings, looked_at


def lasting(
    look: Callable[[Pinned, Slice], DataFrame],
    view: Pinned,
    keys: Slice,
    table: tuple[str, tuple[str, ...]],
    patience: float,
) -> Finding:
    """What differs and goes on differing, though the batch has ended that may have been under way at the first look.

    `look`: compares the rows of some keys; `table`: its name and its key."""
    name, key = table
    what = "readings computed anew"
    if keys.is_nothing:
        return Finding(what, name)
    deadline, looked_last = time.monotonic() + patience, datetime.now(UTC)
    comparison = look(view, keys)
    first = found = finding(what, name, comparison, key)
    now = replace(view, pins={table: number for table, number in view.pins.items() if table.startswith("ops.")})
    while found.defects and time.monotonic() < deadline:
        time.sleep(min(PAUSE_SECONDS, patience))
        looked_last = datetime.now(UTC)
        comparison = look(now, Slice.of(comparison.where(F.col("kind") != Kind.SAME).select(*key)))
        found = finding(what, name, comparison, key)
    if found.defects and not _has_ended_a_batch(view, looked_last) and _may_be_at_work(view, looked_last):
        return Finding(what, name, first.expected, first.found, pending=first.defects, detail=OPEN_BATCH)
    return replace(found, expected=first.expected, found=first.found, pending=first.defects - found.defects)


def _said(view: Pinned, before: datetime) -> DataFrame:
    """What the stream has said by now of the batches that had ended before a moment."""
    return view.spark.table(view.path(PROGRESS)).where(F.col("ended_at") < F.lit(before))


def _has_ended_a_batch(view: Pinned, before: datetime) -> bool:
    """Whether it has ended one since the tables were pinned; without records it tells of none that ended."""
    return not _said(view, before).where("rows_in > 0").where(F.col("ended_at") > F.lit(view.clock)).isEmpty()


def _may_be_at_work(view: Pinned, at: datetime) -> bool:
    """Whether Kafka holds records with which it was not done then; also when nobody can say so."""
    ends = ends_of(_said(view, at))
    if not view.arguments.bootstrap_servers or not ends:
        return True
    try:
        return not kafka.records(view, TOPIC, ends).isEmpty()
    except PySparkException as error:
        logger.warning("Kafka cannot be asked whether the stream has more to read: %s", error)
        return True


def _changed(view: Pinned, read: int | None, table: str, where: str) -> DataFrame | None:
    """The rows of a table that changed since a version; of a look at some days those days' rows; None for all."""
    if view.rebuild and not view.rebuild.full:
        time = {HEART_RATE: "read_at", TRENDS: "minute", QUARANTINE: "first_seen_at"}[table]
        days = view.on_days(F.col(time))
        return view.table(table).where(where).where(days)
    if read is None:
        return None
    news = view.news({table: where}, LastRun({table: read}, view.clock))
    if news.everything:
        return None
    feed = news.of(table)
    return view.table(table).limit(0) if feed is None else feed


def _judged(view: Pinned, records: DataFrame, extent: Offsets) -> DataFrame:
    """Parsed records with `is_done`, `bpm_held` (what silver has for their device and time) and `copies` (their rows
    in quarantine)."""
    hours = Slice.of(records.where("reason IS NULL").select(F.date_trunc("hour", "read_at").alias("hour")))
    silver = view.table(HEART_RATE).where(hours.within("read_at", "hour", longer=ONE_HOUR))
    silver = silver.groupBy(*READING).agg(F.min("bpm").alias("bpm_held"))
    refused = standing(view, TOPIC).groupBy(*RECORD).agg(F.count("*").alias("copies"))
    same = F.expr("record.reason IS NULL AND record.device_id = held.device_id AND record.read_at = held.read_at")
    return (
        records.select(*RECORD, *READING, "bpm", "reason")
        .withColumn("is_done", extent.done)
        .alias("record")
        .join(silver.alias("held"), same, "left")
        .select("record.*", "held.bpm_held")
        .join(refused, list(RECORD), "left")
    )


def _records(view: Pinned, judged: DataFrame, places: Slice, extent: Offsets) -> Finding:
    """Each record is in silver, or says again what is there, or is in quarantine once."""
    accepted, is_held = F.col("reason").isNull(), F.col("copies").isNotNull()
    conflicts = accepted & (F.col("bpm") != F.col("bpm_held"))
    kind = (
        F.when(F.col("copies") > 1, str(Kind.DOUBLED))
        .when(is_held & accepted & ~F.coalesce(conflicts, F.lit(False)), str(Kind.UNEXPECTED))
        .when(~is_held & (~accepted | F.col("bpm_held").isNull()), str(Kind.MISSING))
        .when(~is_held & conflicts, str(Kind.CHANGED))
        .otherwise(str(Kind.SAME))
    )
    refused = places.among(standing(view, TOPIC).where(extent.done).select(*RECORD), *RECORD)
    of_none = refused.join(judged, list(RECORD), "left_anti")
    told = judged.where("is_done").select(*RECORD, kind.alias("kind"))
    told = told.union(of_none.withColumn("kind", F.lit(str(Kind.UNEXPECTED))))
    counts = {row["kind"]: row["count"] for row in told.groupBy("kind").count().toArrow().to_pylist()}
    number = {str(kind): counts.get(kind, 0) for kind in (Kind.MISSING, Kind.UNEXPECTED, Kind.DOUBLED, Kind.CHANGED)}
    arrived, detail = sum(counts.values()), None
    if sum(number.values()):
        samples = told.where(F.col("kind") != Kind.SAME).limit(SAMPLES).toArrow().to_pylist()
        detail = "; ".join(f"{row['kind']} partition={row['partition']}, offset={row['offset']}" for row in samples)
    what = "bronze = accepted + duplicate + quarantined"
    return Finding(what, TOPIC, arrived, arrived - number[Kind.MISSING], **number, detail=detail)


def _doubted(judged: DataFrame, said: DataFrame) -> Slice:
    """Readings of which bronze and silver do not say the same at first sight: to find one in bronze is to read it all.

    `said`: rows of silver that came, changed or went.
    """
    accepted = judged.where("reason IS NULL")
    reading = [*READING, "bpm"]
    lost = accepted.where("is_done AND (bpm_held IS NULL OR bpm_held <> bpm AND copies IS NULL)")
    unsaid = said.select(*reading).exceptAll(accepted.select(*reading).distinct())
    return Slice.of(lost.select(*READING).union(unsaid.select(*READING)))


def _readings(view: Pinned, keys: Slice, extent: Offsets) -> DataFrame:
    """Of each key the first accepted record to arrive, compared with silver; what the stream is not done with is left
    out."""
    wanted = first_to_arrive(accepted(view.table(MULTIPLEX), keys), extent.done)
    found = keys.among(view.table(HEART_RATE), *READING)
    comparison = compared(wanted.select(*READING, "bpm"), found, READING)
    undone = wanted.where("NOT is_done").select(*READING, F.lit(True).alias("undone"))
    return comparison.join(undone, list(READING), "left").where("undone IS NULL OR kind = 'same'").drop("undone")


def _minutes(view: Pinned, read: dict[str, int], said: DataFrame | None) -> Slice:
    changed = _changed(view, read.get(TRENDS), TRENDS, "TRUE")
    if said is None or changed is None:
        return EVERYTHING
    frames: Iterable[DataFrame] = (said.withColumn("minute", F.date_trunc("minute", "read_at")), changed)
    keys = Slice.of(reduce(DataFrame.union, (frame.select(*MINUTE) for frame in frames)))
    return NOTHING if keys.is_nothing else keys


def _trends(view: Pinned, keys: Slice) -> DataFrame:
    """Trends of some minutes computed anew from silver, compared with gold."""
    return compared(bpm_trends.rows(view, keys), keys.among(view.table(TRENDS), *MINUTE), MINUTE)
