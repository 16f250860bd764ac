"""What every job has in common: its arguments, its session, and the one row that it leaves in `ops.job_runs`."""

from __future__ import annotations

import argparse
import json
import logging
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.declarations import register
from spark_jobs.platform import Platform

JOB_RUNS = "ops.job_runs"
LONGEST_ERROR = 8_000
RECENT_RUNS = 100  # of all jobs, among whose commits the last run of one is looked for before the table is read

OUTCOME = """
    job STRING, run_id STRING, status STRING, mode STRING, started_at TIMESTAMP, ended_at TIMESTAMP, clock TIMESTAMP,
    touched BIGINT, rows_in MAP<STRING, BIGINT>, rows_out MAP<STRING, BIGINT>, rows_duplicate MAP<STRING, BIGINT>,
    rows_ignored MAP<STRING, BIGINT>, rows_quarantined MAP<STRING, BIGINT>, source_versions MAP<STRING, BIGINT>,
    target_versions MAP<STRING, BIGINT>, error_class STRING, error STRING
"""

logger = logging.getLogger("fitness")


@dataclass(frozen=True)
class Rebuild:
    """What a person asked to have recomputed: all, rows with these keys, or rows of these days (both inclusive)."""

    full: bool = False
    keys: tuple[str, ...] = ()
    from_date: date | None = None
    to_date: date | None = None

    def __bool__(self) -> bool:
        return bool(self.full or self.keys or self.from_date or self.to_date)


@dataclass
class Outcome:
    """What a run will say of itself in `ops.job_runs`; jobs fill it while they work. Counts are by source or table."""

    mode: str = "incremental"
    touched: int | None = None
    rows_in: dict[str, int] = field(default_factory=dict)
    rows_out: dict[str, int] = field(default_factory=dict)
    rows_duplicate: dict[str, int] = field(default_factory=dict)
    rows_ignored: dict[str, int] = field(default_factory=dict)
    rows_quarantined: dict[str, int] = field(default_factory=dict)
    source_versions: dict[str, int] = field(default_factory=dict)
    target_versions: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LastRun:
    """The bookkeeping of a job's last good run: how far it has read each source, and what it took as the present."""

    source_versions: dict[str, int]
    clock: datetime


@dataclass(frozen=True)
class Job:
    """One run of one job: its session, its catalog, its arguments, and the outcome it will leave.

    `pins`: tables that this run reads as of a version, whatever is written to them meanwhile.
    `registered`: tables that this run has made known.
    """

    name: str
    spark: SparkSession
    platform: Platform
    catalog: str
    run_id: str
    clock: datetime
    rebuild: Rebuild
    arguments: argparse.Namespace
    outcome: Outcome = field(default_factory=Outcome)
    pins: dict[str, int] = field(default_factory=dict)
    registered: set[str] = field(default_factory=set)

    def register(self, *tables: str) -> None:
        """Make tables known that this run has not made known before."""
        if missing := [table for table in tables if table not in self.registered]:
            register(self.spark, self.platform, self.catalog, *missing)
            self.registered.update(missing)

    def path(self, name: str) -> str:
        """The full name of `schema.table`."""
        return f"{self.catalog}.{name}"

    def table(self, name: str) -> DataFrame:
        """The rows of `schema.table`."""
        return self.at(name, self.pins[name]) if name in self.pins else self.spark.table(self.path(name))

    def at(self, name: str, number: int) -> DataFrame:
        """The rows of `schema.table` as of a version."""
        return self.spark.read.option("versionAsOf", number).table(self.path(name))

    def last_run(self) -> LastRun | None:
        """The last good run of this job that kept the books (a rebuild does not); None when there was none.

        The newest commits of the table say it themselves (`record`). Reading the table instead takes three times as
        long, since each run before has given it a file: most of what a run costs that finds nothing new.
        """
        self.register(JOB_RUNS)
        history = self.spark.sql(f"DESCRIBE HISTORY {self.path(JOB_RUNS)} LIMIT {RECENT_RUNS}")
        for commit in history.select("version", "userMetadata").toArrow().to_pylist():  # newest first
            said = json.loads(commit["userMetadata"] or "{}")
            if said.get("job") == self.name and commit["version"] <= self.pins.get(JOB_RUNS, commit["version"]):
                return LastRun(said["source_versions"], instant(said["clock"]))
        mine = self.table(JOB_RUNS).where(
            (F.col("job") == self.name) & (F.col("status") == "succeeded") & (F.col("mode") != "rebuild")
        )
        row = mine.orderBy(F.desc("ended_at")).select("source_versions", F.unix_micros("clock").alias("clock")).head()
        return None if row is None else LastRun(dict(row["source_versions"]), instant(row["clock"]))


@contextmanager
def kept(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, computed once however often it is used; where the platform keeps nothing (Databricks serverless
    refuses to), once for each use."""
    try:
        held = frame.persist()
    except PySparkException as error:
        if "NOT_SUPPORTED_WITH_SERVERLESS" not in str(error):
            raise
        yield frame
        return
    try:
        yield held
    finally:
        held.unpersist()


def instant(micros: int) -> datetime:
    """A moment from microseconds since the epoch; exact, and free of the zone of this process."""
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def parser(name: str) -> argparse.ArgumentParser:
    """The arguments that every job takes."""
    arguments = argparse.ArgumentParser(prog=name, allow_abbrev=False)
    arguments.add_argument("--catalog", required=True, help="catalog of all tables")
    arguments.add_argument("--storage-root", help="URI below which tables lie; without it the catalog manages them")
    arguments.add_argument("--checkpoint-root", help="URI below which the checkpoints of streams lie")
    arguments.add_argument("--secret-scope", help="Databricks secret scope; without it secrets are in the environment")
    arguments.add_argument("--run-id", default=None, help="the run as its caller names it")
    arguments.add_argument("--now", type=moment, default=None, help="what to take as the present, ISO-8601 with offset")
    rebuild = arguments.add_argument_group("rebuild (recomputes from beneath, whatever has been read before)")
    rebuild.add_argument("--full", action="store_true", help="every row")
    rebuild.add_argument("--keys", type=_keys, default=(), help="rows of these keys, separated by commas")
    rebuild.add_argument("--from-date", type=date.fromisoformat, default=None, help="rows from this UTC day on")
    rebuild.add_argument("--to-date", type=date.fromisoformat, default=None, help="rows up to and with this UTC day")
    return arguments


def run(
    name: str,
    argv: Sequence[str],
    work: Callable[[Job], None],
    tables: Sequence[str],
    arguments: argparse.ArgumentParser | None = None,
) -> int:
    """Do the work of a job with its `tables` registered, and leave its outcome, good or bad, in `ops.job_runs`.

    A session that exists already is used and left alone; one made here is stopped. Errors are recorded and raised.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parsed = (arguments or parser(name)).parse_args(list(argv))
    ours = SparkSession.getActiveSession() is None
    spark = SparkSession.builder.getOrCreate()
    try:
        for setting, value in (("spark.sql.session.timeZone", "UTC"), ("spark.sql.ansi.enabled", "true")):
            spark.conf.set(setting, value)
        started_at = datetime.now(UTC)
        job = Job(
            name=name,
            spark=spark,
            platform=Platform(parsed.storage_root, parsed.checkpoint_root, parsed.secret_scope),
            catalog=parsed.catalog,
            run_id=parsed.run_id or str(uuid.uuid4()),
            clock=parsed.now or started_at,
            rebuild=Rebuild(parsed.full, parsed.keys, parsed.from_date, parsed.to_date),
            arguments=parsed,
        )
        try:
            job.register(*tables)
            if job.rebuild:
                job.outcome.mode = "rebuild"
            work(job)
        except BaseException as error:
            _record_failure(job, started_at, error)
            raise
        record(job, started_at)
    finally:
        if ours:
            spark.stop()
    return 0


def record(job: Job, started_at: datetime, error: BaseException | None = None) -> None:
    """Append the outcome of a run to `ops.job_runs`; of a run that keeps the books the commit itself says how far."""
    outcome = job.outcome
    row = (
        job.name,
        job.run_id,
        "failed" if error else "succeeded",
        outcome.mode,
        started_at,
        datetime.now(UTC),
        job.clock,
        outcome.touched,
        outcome.rows_in,
        outcome.rows_out,
        outcome.rows_duplicate,
        outcome.rows_ignored,
        outcome.rows_quarantined,
        outcome.source_versions,
        outcome.target_versions,
        type(error).__name__ if error else None,
        "".join(traceback.format_exception_only(error)).strip()[:LONGEST_ERROR] if error else None,
    )
    job.register(JOB_RUNS)
    writer = job.spark.createDataFrame([row], OUTCOME).writeTo(f"{job.catalog}.{JOB_RUNS}")
    if not error and outcome.mode != "rebuild":
        micros = (job.clock - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
        note = {"job": job.name, "source_versions": outcome.source_versions, "clock": micros}
        writer = writer.option("userMetadata", json.dumps(note))
    writer.append()
    logger.info(
        "%s %s: touched %s, in %s, out %s, quarantined %s, %.2f s",
        job.name,
        outcome.mode,
        outcome.touched,
        outcome.rows_in,
        outcome.rows_out,
        outcome.rows_quarantined,
        (datetime.now(UTC) - started_at).total_seconds(),
    )


def _record_failure(job: Job, started_at: datetime, error: BaseException) -> None:
    """Record a failed run as well as can be: what broke the job may also keep us from saying so."""
    try:
        record(job, started_at, error)
    except Exception:
        logger.exception("The failure of %s could not be recorded in %s.", job.name, JOB_RUNS)


def moment(text: str) -> datetime:
    """A time with an offset, as an argument of a job."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset from UTC")
    return found.astimezone(UTC)


def _keys(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
