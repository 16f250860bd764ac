"""The heart-rate stream: Kafka `bpm` -> multiplex -> silver.heart_rate (+ ops.quarantine) -> gold.bpm_trends.

One query, one batch function that writes all four tables. Exactly once into each: every write carries the batch's
number as a Delta transaction identifier, so a batch that is run again after dying anywhere writes what is missing and
nothing twice, and of two streams on one checkpoint only one can commit a batch. Nothing is dropped for being late.

Runs for ever. Ends well (0) when it is told to stop, or when a newer start has claimed the stream; waits, paused, when
it would have to refuse too much; fails on anything else, and the platform starts it again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial, reduce
from pathlib import Path
from typing import Any

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from spark_jobs import kafka, packing
from spark_jobs.files import NOTE, Offsets, plain_path, planned_batch, replace_file
from spark_jobs.job import Job, parser, run
from spark_jobs.quarantine import QUARANTINE
from spark_jobs.streaming import readings
from spark_jobs.streaming.batch import HEART_RATE, MULTIPLEX, RECORD, TRENDS, Batch, Paused, Report, batch_of
from spark_jobs.streaming.heartbeat import (
    Epoch,
    Heart,
    now_utc,
    stop_requested,
    total,
)
from spark_jobs.streaming.limits import RefusalLimit

NAME = "streaming.bpm"
QUERY = "bpm"
PROGRESS = "ops.stream_progress"
TABLES = (MULTIPLEX, HEART_RATE, TRENDS)  # which a start waits for; the others are registered when they are written
PACKED = (MULTIPLEX, TRENDS, HEART_RATE)
# Spark 4.1's Kafka source fails to report on a batch that a start finds unfinished, after it is written and committed
# (SPARK-55271): each crash in a batch would cost a second start of the driver.
REPORTING_FAULT = 'because the return value of "scala.Option.get()" is null'
AGAIN = "start the query again"

Held = dict[int, int]  # partition -> the newest offset that the tables hold of it

COUNTED = ("in", "accepted", "duplicate", "quarantined")  # of each batch

FENCED = "a newer start has claimed the stream"

POLL_SECONDS = 1  # how often the query is looked at
BEAT_SECONDS = 3.0  # a heartbeat at least this often, also when there is nothing to read
PROGRESS_SECONDS = 60.0  # a row of ops.stream_progress at most this often
MAINTENANCE_SECONDS = 240.0  # one table's small files are packed at most this often
PUT_OFF_SECONDS = 900.0  # ... and while batches are large
FIRST_MAINTENANCE_SECONDS = 100.0  # after a start, by when it has caught up; a driver may not live for long
PACKING_SECONDS = 5.0  # how long a stop waits for packing beside the batches; what is broken off has changed nothing
RECENT_COMMITS = (20, 1000)  # of bronze: where a start looks for the newest batch, and where else after a silence
COMMIT_SECONDS = 5.0  # how long a stop waits for the checkpoint to note the newest batch

LAST_NUMBER = 2**63 - 1  # of a batch

CHECKPOINT = json.loads(Path(__file__).with_name("checkpoint.json").read_text())

logger = logging.getLogger("fitness.stream")
logging.getLogger("py4j").setLevel(logging.ERROR)  # would say every batch that Java called Python

SESSION = {
    # A batch is small: two tasks a shuffle, and no replanning between its stages.
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.streaming.noDataProgressEventInterval": "2000",
    # devices that are named are looked up one by one in a file's pages, not as the range from the least to the greatest
    "spark.sql.parquet.pushdown.inFilterThreshold": str(readings.FEW_DEVICES),
    # a batch of an outage touches more minutes than Spark would count in memory
    "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "100000",
    **packing.SETTINGS,
    # one file at a time: a packing of several takes every core from the batches that go on beside it
    "spark.databricks.delta.optimize.maxThreads": "1",
}


class IncompatibleCheckpoint(Exception):
    """The checkpoint was written by a plan that this code cannot take over."""


class BrokenOff(Exception):
    """A batch that failed while the stream waited for its end: the next start is to write the rest of it."""


class Stopped(Exception):
    """A batch that was not begun, because the stream is to end."""


def arguments() -> argparse.ArgumentParser:
    given = parser(NAME)
    given.add_argument("--bootstrap-servers", required=True)
    given.add_argument("--kafka-option", action="append", default=[], metavar="K=V", help="option of the Kafka client")
    given.add_argument("--topics", default="bpm", help="the topic of the readings")
    given.add_argument("--heartbeat", required=True, help="path or URI of the heartbeat file")
    given.add_argument("--version", default="unknown", help="code and settings, as the supervisor names them")
    given.add_argument("--trigger-seconds", type=float, default=1.0)
    given.add_argument("--most-records", type=int, default=300_000, help="records in one batch, at most")
    given.add_argument(
        "--refused-share", type=float, default=0.5, help="pause above this share of refused records; 1: never"
    )
    given.add_argument("--refused-minimum", type=int, default=5_000, help="... once so many were refused")
    return given


def stream_records(job: Job) -> DataFrame:
    """The topic's records as columns of the multiplex table, without ingested_at and event_date."""
    given = job.arguments
    reader = (
        job.spark.readStream.format("kafka")
        .options(**kafka.reader_options(job))
        .option("subscribe", given.topics)
        .option("startingOffsets", "earliest")
        .option("includeHeaders", "true")
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", given.most_records)
    )
    return reader.load().withColumnRenamed("timestamp", "kafka_timestamp").select(*RECORD)


# --- the life of the stream ------------------------------------------------------------------------------------------


class Gate:
    """Lets a batch begin or the stream end, never both: a batch that has begun is finished first."""

    def __init__(self, may_not_begin: Callable[[], str]) -> None:
        self._may_not_begin = may_not_begin  # why no further batch may begin, or nothing
        self._lock = threading.Lock()
        self.closed = ""

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Raises Stopped instead of beginning."""
        with self._lock:
            self.closed = self.closed or self._may_not_begin()
            if self.closed:
                raise Stopped(self.closed)
            yield

    def close(self, why: str) -> None:
        """From now on no batch begins; returns when the one under way has ended."""
        self.closed = why
        with self._lock:
            pass


@dataclass
class Stream:
    """A running query, its heart, and what they tell each other."""

    job: Job
    heart: Heart
    epoch: Epoch
    batch: Batch
    signalled: threading.Event
    newest: Report | None = None
    paused: str = ""
    broken_off: bool = False  # a batch failed, and not all tables may have their part of it
    offsets: dict[str, Any] = field(default_factory=lambda: {"end_offsets": None, "latest_offsets": None})

    def __post_init__(self) -> None:
        self.gate = Gate(self.reason_to_end)
        self.stretch = Stretch(self.job, self.heart)
        self._maintained_at = time.monotonic() - MAINTENANCE_SECONDS + FIRST_MAINTENANCE_SECONDS
        # each start begins with another table: none goes without where drivers die soon
        self._tables = itertools.islice(itertools.cycle(PACKED), self.epoch.number % len(PACKED), None)
        self._beside = threading.Thread()  # that packs a table

    def reason_to_end(self) -> str:
        if self.signalled.is_set():
            return "told to stop by a signal"
        if self.epoch.fenced:
            return FENCED
        if stop_requested(self.heart.path, self.epoch.number):
            return "asked to stop"
        return ""

    def on_batch(self, records: DataFrame, number: int) -> None:
        with self.gate.batch():
            try:
                report = self.batch.write(records, number)
            except Paused as pause:
                self.paused = str(pause)
                raise
            except Exception:
                self.broken_off = True
                raise
            self.heart.progressed()
            self.heart.count(report.rows)
            self.stretch.add(report)
            self.newest = report
            logger.info("batch %s: %s in %.2f s %s", number, report.rows, report.seconds, report.durations_ms)
            catches_up = report.rows["in"] >= self.job.arguments.most_records // 2  # and needs the cores
            self._maintain(PUT_OFF_SECONDS if catches_up else MAINTENANCE_SECONDS)

    def _maintain(self, seconds: float) -> None:
        """Pack one table's small files, so long after the one before; beside the batches if they only append to it: a
        MERGE could lose to it."""
        if time.monotonic() - self._maintained_at < seconds or self._beside.is_alive():
            return
        self._maintained_at = time.monotonic()
        table = next(self._tables)
        if table == TRENDS:
            self._pack(table)
        else:
            self._beside = threading.Thread(target=self._pack, args=(table,), name="packing", daemon=True)
            self._beside.start()

    def _pack(self, table: str) -> None:
        begun = time.monotonic()
        # Days before yesterday are packed already.
        days = "WHERE topic = 'bpm' AND event_date >= current_date() - 1" if table == MULTIPLEX else ""
        try:
            packing.pack(self.job.spark, self.job.path(table), days)
        except Exception:  # files stay small until the next time; the stream does not end for it
            logger.exception("%s was not packed.", table)
        else:
            logger.info("packed %s in %.1f s", table, time.monotonic() - begun)

    def run(self, query: StreamingQuery) -> str:
        """Beat until the query ends or is to end; why it ended. Raises what the query failed with."""
        beaten, told, begun_with = 0.0, None, self.newest
        while not (why := self.reason_to_end()):
            try:
                if query.awaitTermination(POLL_SECONDS):
                    return "ended"
            except StreamingQueryException as error:
                if self.paused or self.gate.closed:
                    return self.gate.closed
                if REPORTING_FAULT in str(error) and self.newest is not begun_with:
                    return AGAIN
                self.beat("failed", str(error)[:2000])
                raise
            progress = query.lastProgress
            news = None if progress is None else (progress.batchId, progress.timestamp)
            if news != told or time.monotonic() - beaten >= BEAT_SECONDS:
                if progress is not None and news != told:
                    self._take_progress(json.loads(progress.json))
                self.beat("running")
                beaten, told = time.monotonic(), news
            self.stretch.write_when_due(self.offsets)
        self.gate.close(why)
        if self.broken_off and why != FENCED:  # while it was waited for
            self.beat("failed", f"A batch failed when the stream was to end: {why}.")
            raise BrokenOff(why)
        self._let_commit(query)
        query.stop()
        if self._beside.is_alive():
            self._beside.join(PACKING_SECONDS)
        return why

    def beat(self, state: str, reason: str = "") -> None:
        self.heart.beat(state, reason=reason, batch=self._told(), **self.offsets)

    def wait_paused(self) -> str:
        """Stay, so that nobody starts the same code on the same records again, until told to end; why it ended."""
        while not (why := self.reason_to_end()):
            self.offsets["latest_offsets"] = None  # nobody looks where the topic ends, and records may wait there
            self.beat("paused", self.paused)
            self.signalled.wait(BEAT_SECONDS)
        return why

    def _told(self) -> dict[str, Any] | None:
        return self.newest.document() if self.newest else None

    def _take_progress(self, progress: dict[str, Any]) -> None:
        source = progress["sources"][0]
        begun = datetime.fromisoformat(progress["timestamp"])
        self.heart.progressed()
        self.heart.looked(begun, total(source.get("startOffset")), total(source.get("latestOffset")))
        for name, key in (("end_offsets", "endOffset"), ("latest_offsets", "latestOffset")):
            if source.get(key):
                self.offsets[name] = source[key]

    def _let_commit(self, query: StreamingQuery) -> None:
        """The tables hold the newest batch; let the checkpoint say so too, or it is run once more for nothing."""
        deadline = time.monotonic() + COMMIT_SECONDS
        while self.newest and time.monotonic() < deadline:
            progress = query.lastProgress
            if progress is not None and progress.batchId >= self.newest.number:
                self._take_progress(json.loads(progress.json))
                return
            time.sleep(0.05)


class Stretch:
    """Batches since the last row of ops.stream_progress."""

    def __init__(self, job: Job, heart: Heart) -> None:
        self._job, self._heart = job, heart
        self._reports: list[Report] = []
        self._written_at = time.monotonic()
        self._start_offsets: Offsets | None = None
        self._newest_batch = -1
        self._rows = itertools.count(1)
        self._writer = threading.Thread()

    def add(self, report: Report) -> None:
        self._reports.append(report)

    def write_when_due(self, offsets: dict[str, Any], at_once: bool = False) -> None:
        """Beside what goes on, unless it is wanted at once: Spark may be busy with a batch for long, and the heart is
        to beat meanwhile."""
        if at_once and self._writer.is_alive():
            self._writer.join()
        is_due = time.monotonic() - self._written_at >= PROGRESS_SECONDS and not self._writer.is_alive()
        # A batch may be reported before its offsets are, and then there is silence; or a run before it died too soon.
        is_further = offsets["end_offsets"] not in (None, self._start_offsets)
        if not (self._reports or is_further) or not (is_due or at_once):
            return
        reports, self._reports = self._reports, []
        self._written_at = time.monotonic()
        ended = (reports[-1].finished_at if reports else None) or now_utc()
        started = reports[0].started_at if reports else ended
        first_batch = reports[0].number if reports else self._newest_batch
        self._newest_batch = reports[-1].number if reports else self._newest_batch
        seconds = max((ended - started).total_seconds(), 0.001)
        rows = {name: sum(report.rows[name] for report in reports) for name in COUNTED}
        phases = sorted({phase for report in reports for phase in report.durations_ms})
        latest, end = total(offsets["latest_offsets"]), total(offsets["end_offsets"])
        fronts = [report.front for report in reports if report.front]
        row = {
            "query": QUERY,
            "run_id": self._heart.run_id,
            "version": self._heart.version,
            "epoch": self._heart.epoch,
            "first_batch": first_batch,
            "last_batch": self._newest_batch,
            "started_at": started,
            "ended_at": ended,
            "rows_in": rows["in"],
            "rows_accepted": rows["accepted"],
            "rows_duplicate": rows["duplicate"],
            "rows_quarantined": rows["quarantined"],
            "rows_per_second": rows["in"] / seconds,
            "start_offsets": _flat(self._start_offsets),
            "end_offsets": _flat(offsets["end_offsets"]),
            "lag": None if latest is None or end is None else max(0, latest - end),
            "max_event_time": max(fronts, default=None),
            "max_batch_seconds": max((report.seconds for report in reports), default=None),
            "durations_ms": {phase: sum(report.durations_ms.get(phase, 0) for report in reports) for phase in phases},
        }
        self._start_offsets = offsets["end_offsets"]
        self._writer = threading.Thread(target=self._write, args=(row,), name="progress", daemon=True)
        self._writer.start()
        if at_once:
            self._writer.join()

    def _write(self, row: dict[str, Any]) -> None:
        table = f"{self._job.catalog}.{PROGRESS}"
        spark = self._job.spark
        try:
            self._job.register(PROGRESS)
            # as a document: Spark would read Python's rows by processes of Python, which stay
            document, schema = json.dumps(row, default=datetime.isoformat), spark.table(table).schema
            said = F.from_json(F.lit(document), schema, {"mode": "FAILFAST"})
            written = spark.range(1).select(said.alias("row")).select("row.*").writeTo(table)
            # a transaction of its own: with that of the batch under way a second row would be left out
            own = f"{QUERY}-progress-{self._heart.epoch}"
            written.option("txnAppId", own).option("txnVersion", next(self._rows)).append()
        except Exception:  # a record for later; the stream does not end for it
            logger.exception("The progress of batches %s to %s is not recorded.", row["first_batch"], row["last_batch"])


def _flat(offsets: Offsets | None) -> dict[str, int]:
    return {f"{topic}-{number}": at for topic, numbers in (offsets or {}).items() for number, at in numbers.items()}


@dataclass(frozen=True)
class TakenOver:
    """What a start knows of a checkpoint. `held_to`: by partition, the newest offset that the tables may hold of
    batches numbered under another name. `transaction`: the name under which its batches are numbered in the tables;
    empty: its own identifier, which Spark is to give it."""

    held_to: Held
    transaction: str = ""


def read_note(folder: Path) -> dict[str, Any]:
    """What is kept beside a checkpoint, nothing of one that Spark is to make. Raises IncompatibleCheckpoint when this
    code must not take it over."""
    if not (folder / "metadata").exists():
        return {}
    known: dict[str, Any] = json.loads((folder / NOTE).read_text())
    if known["version"] not in CHECKPOINT["reads"]:
        raise IncompatibleCheckpoint(
            f"{folder} was written by version {known['version']}, and this code takes over {CHECKPOINT['reads']}:"
            " deploy a version that reads it, or move it away: a new one reads the topic anew and adds nothing twice."
        )
    return known


def take_over(folder: Path, newest_batch: Callable[[str], int | None], newest_held: Callable[[str], Held]) -> TakenOver:
    """Take a checkpoint over, one that Spark is to make or one that is there.

    A new one reads records that the tables may have, so those up to `newest_held` are looked for. An older copy that
    somebody put back reads such records too; and its next batches have numbers that were used, which Delta would leave
    out, so they are numbered under a new name. It is one when `newest_batch` of its name is none that it knows; and
    when nobody can tell, it is taken for one. What was decided is kept in the checkpoint.

    `newest_held` is asked when nobody writes any more under the name that it is given (empty: none). Raises
    IncompatibleCheckpoint when this code must not take the checkpoint over.
    """
    known = read_note(folder)
    if not known:
        known = {"held_to": newest_held("")}
    else:
        known.setdefault("transaction", f"bpm-{identity(folder)}")
        newest, planned = newest_batch(known["transaction"]), planned_batch(folder)
        if newest is None or newest > planned:
            logger.warning("%s ends with batch %s, bronze with %s: an older copy, it seems.", folder, planned, newest)
            known |= {"held_to": newest_held(known["transaction"]), "transaction": f"bpm-{uuid.uuid4()}"}
    if not isinstance(known["held_to"], dict):  # version 1: one offset for all partitions, or -1
        known["held_to"] = newest_held("") if known["held_to"] >= 0 else {}
    replace_file(folder / NOTE, json.dumps({**known, "version": CHECKPOINT["version"]}))
    return TakenOver({int(number): to for number, to in known["held_to"].items()}, known.get("transaction", ""))


def identity(folder: Path) -> str:
    """The identifier that Spark gave the checkpoint when it was made."""
    return str(json.loads((folder / "metadata").read_text())["id"])


def newest_batch(spark: SparkSession, catalog: str, transaction: str) -> int | None:
    """The newest batch that bronze holds; None when it has another name, or none is among the newest commits."""
    for limit in RECENT_COMMITS:
        history = spark.sql(f"DESCRIBE HISTORY {catalog}.{MULTIPLEX} LIMIT {limit}")
        for commit in history.select("userMetadata").toArrow().to_pylist():  # newest first
            name, batch = batch_of(commit["userMetadata"])
            if name:
                return batch if name == transaction else None
    return None


def close(spark: SparkSession, catalog: str, transaction: str) -> None:
    """From now on no batch of that name is written: Delta has had the last number. A driver that was replaced may still
    have one under way."""
    for table in (MULTIPLEX, HEART_RATE, TRENDS, QUARANTINE):
        nothing = spark.table(f"{catalog}.{table}").limit(0).writeTo(f"{catalog}.{table}")
        nothing.option("txnAppId", transaction).option("txnVersion", str(LAST_NUMBER)).append()


def newest_held(job: Job, closed: str = "") -> Held:
    """The newest offset of each partition of the readings' topic that a table holds. A batch may have died when it had
    written one of them. First closes a name, if one is given."""
    job.register(QUARANTINE)
    if closed:
        close(job.spark, job.catalog, closed)
    readings_of = {MULTIPLEX: "topic = 'bpm'", QUARANTINE: "source = 'kafka' AND topic = 'bpm'"}
    held = [job.table(table).where(where).select("partition", "offset") for table, where in readings_of.items()]
    newest = reduce(DataFrame.union, held).groupBy("partition").agg(F.max("offset"))
    return dict(newest.collect())


def keep_running(job: Job) -> None:
    given, spark = job.arguments, job.spark
    told_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())
    for setting, value in SESSION.items():
        spark.conf.set(setting, value)
    heartbeat = plain_path(given.heartbeat)
    checkpoint = job.platform.checkpoint(QUERY)
    folder = plain_path(checkpoint)
    read_note(folder)  # who must not take it over leaves the stream of before alone
    epoch = Epoch.claim(heartbeat, job.run_id)
    taken = take_over(folder, partial(newest_batch, spark, job.catalog), partial(newest_held, job))
    heart = Heart(heartbeat, QUERY, given.version, CHECKPOINT["version"], job.run_id, epoch.number)
    heart.beat("starting")
    limit = RefusalLimit(given.refused_share, minimum=given.refused_minimum)
    if given.refused_share >= 1:  # a person has decided that it is the data
        limit = replace(limit, minimum=sys.maxsize, streak=sys.maxsize)
    batch = Batch(job.catalog, limit, taken.held_to, taken.transaction, register=job.register)
    stream = Stream(job, heart, epoch, batch, told_to_stop)

    def on_batch(records: DataFrame, number: int) -> None:
        batch.transaction = batch.transaction or f"bpm-{identity(folder)}"
        stream.on_batch(records, number)

    writer = (
        readings.parsed(stream_records(job))
        .writeStream.queryName(QUERY)
        .foreachBatch(on_batch)
        .option("checkpointLocation", checkpoint)
        .trigger(processingTime=f"{round(1000 * given.trigger_seconds)} milliseconds")
    )
    logger.info("Epoch %s of %s, version %s, from %s", epoch.number, QUERY, given.version, checkpoint)
    while (why := stream.run(writer.start())) == AGAIN:
        logger.info("The batch before the crash is complete; the query is started again (SPARK-55271).")
    if stream.paused:
        logger.error("Paused: %s", stream.paused)
        why = stream.wait_paused()
    stream.stretch.write_when_due(stream.offsets, at_once=True)
    logger.info("Ended: %s.", why)
    if why == FENCED:  # the heartbeat is the newer one's
        return
    stream.beat("stopped", why)


def main(argv: list[str]) -> int:
    return run(NAME, argv, keep_running, TABLES, arguments())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
