"""The one idea, as code: find the keys that new rows touch, compute their rows anew from beneath, merge what differs.

    sources --change feed--> touched keys --rows beneath--> rows as they should be --difference--> merge --> outcome

What a job has read is said by its outcome row, written last. A run that dies before costs a recomputation: the next one
reads the same changes, computes the same rows, and finds nothing left to merge.

Nothing here depends on how much history there is. Touched keys are collected while they are few and become literal
bounds (`user_id BETWEEN 7 AND 9`) on every table that is read and on the target of the merge, so that Delta skips the
files of everyone else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial, reduce
from operator import and_

import pyarrow.compute
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import quarantine
from spark_jobs.job import JOB_RUNS, Job, LastRun, run
from spark_jobs.slices import EVERYTHING, NOTHING, Slice

logger = logging.getLogger("fitness")

FEW_DIFFERENCES = 20_000  # rows to write that the client holds

# The time of a source's rows, by which a rebuild of days finds the rows that it takes as changed.
TIMES = {
    "bronze.registrations": "registered_at",
    "bronze.gym_visits": "login_at",
    "silver.gym_visits": "login_at",
    "silver.user_profile_changes": "changed_at",
    "silver.workout_events": "occurred_at",
    "silver.workout_sessions": "started_at",
    "silver.heart_rate": "read_at",
    "silver.workout_heart_rate": "read_at",
}

# Messages come any time after what they tell: a rebuild of days reads them all, and takes what they tell of these days.
MESSAGES = "bronze.kafka_multiplex"

# What Delta says when a change feed cannot be read from a version on: older than the log, or its files are vacuumed.
FEED_IS_GONE = (
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_CHANGE_DATA_FILE_NOT_FOUND",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "FILE_NOT_EXIST",
    "FileNotFoundException",
    "VersionNotFoundException",
)
NEVER = 2**62
BEYOND_LATEST = re.compile(r"DELTA_CDC_START_VERSION_AFTER_LATEST.* latest table version (\d+)", re.DOTALL)


@dataclass
class Changes:
    """What is new in the sources of a job since its last good run.

    `feeds` has a DataFrame for each source with news: rows inserted, deleted, and before and after an update, with
    `_change_type`. `everything` says that it cannot be told what is new (first run, or a feed is gone). `versions` is
    how far each source has been read.
    """

    job: Job
    last: LastRun | None = None
    everything: bool = False
    feeds: dict[str, DataFrame] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def of(self, source: str) -> DataFrame | None:
        """The changed rows of a source, or None without news."""
        return self.feeds.get(source)


@dataclass(frozen=True)
class Intake:
    """How the records of a bronze table are judged, by the one job that does it.

    `source`: the bronze table. `label`: how the outcome calls these records. `judged` adds `reason` (NULL when
    accepted) and `detail`. `refused` makes rows of `ops.quarantine` of judged rows. `place`: a BIGINT that rises with
    arrival, there and in `ops.quarantine`. `ignored`: predicate on accepted records that say nothing.
    """

    source: str
    label: str
    judged: Callable[[DataFrame], DataFrame]
    refused: Callable[[DataFrame], DataFrame]
    place: str
    ignored: str = "FALSE"


@dataclass(frozen=True)
class Table:
    """How one table follows from those beneath.

    `key`: what is recomputed as one (columns of the target). `row_key`: what names a row of it. `clustering`: columns
    of its layout, whose old values tell which files a merge must read. `sources`: what it is made of, with the
    predicate on the rows that matter. `touched`: changes -> frames with the key and, if `time` is given (a column of
    the target), with `since` and `until`, between which the key's rows lie (NULL in `until`: without end). `rows`:
    (job, slice of keys) -> the rows of these keys as they should be. `carried`: further columns of the touched frames,
    for a table whose rows are the changes themselves. `intake`: if this job judges a bronze table.
    """

    name: str
    key: tuple[str, ...]
    row_key: tuple[str, ...]
    clustering: tuple[str, ...]
    sources: Mapping[str, str]
    touched: Callable[[Changes], Iterable[DataFrame]]
    rows: Callable[[Job, Slice], DataFrame]
    time: str | None = None
    carried: tuple[str, ...] = ()
    intake: Intake | None = None

    @property
    def slice_columns(self) -> tuple[str, ...]:
        return (*self.key, *self.carried, *(("since", "until") if self.time else ()))

    def existing(self, job: Job, keys: Slice) -> DataFrame:
        """The target's rows of these keys as they are."""
        rows = job.table(self.name)
        return keys.among(rows.where(keys.within(self.time, "since", "until")) if self.time else rows, *self.key)


LAST_COMMIT = "spark.databricks.delta.lastCommitVersionInSession"


class Overtaken(Exception):
    """Another run has written the table between this run's look at it and its write."""


class WrittenBeside(Overtaken):
    """... and this run's write stands nevertheless: what both inserted is there twice."""


def run_table(table: Table, argv: Sequence[str]) -> int:
    """One run of the job that keeps a table."""
    written = [table.name, JOB_RUNS, *([quarantine.QUARANTINE] if table.intake else [])]
    return run(table.name, argv, lambda job: refresh(job, table), [*table.sources, *written])


def refresh(job: Job, table: Table) -> None:
    """Bring a table up to date with its sources, or recompute what the arguments of the job ask for."""
    if job.rebuild:
        keys = asked_for(job, table)
    else:
        news = changes(job, table.sources)
        keys = touched_keys(table, news)
        job.outcome.source_versions |= news.versions
        if news.everything:
            job.outcome.mode = "everything"
            if not any(news.versions.values()):
                return  # nobody has ever written to a source
        if table.intake:
            if news.everything:  # what arrives from now on is the next run's, to be counted there
                job.pins[table.intake.source] = news.versions[table.intake.source]
            judge(job, table.intake, news, table.sources[table.intake.source])
    job.outcome.touched = None if keys.is_everything else keys.count()
    if not keys.is_nothing:
        merge(job, table, keys)
    if table.intake and not job.rebuild:
        _count_duplicates(job, table, table.intake.label)


def changes(job: Job, sources: Mapping[str, str]) -> Changes:
    """What is new in `sources` (with a predicate on each) since this job's last good run."""
    with ThreadPoolExecutor(1 + len(sources), "ask") as asking:  # side by side, since a run waits for each answer
        asked = asking.submit(job.last_run)
        latest = dict(zip(sources, asking.map(partial(version, job), sources), strict=True))
        last = asked.result()
    read = last.source_versions if last else {}
    for source in sources:
        if latest[source] < read.get(source, 0):  # another run of this job may have read it between the two answers
            latest[source] = version(job, source)
    # a source that has fewer versions than were read was made anew
    if any(source not in read or latest[source] < read[source] for source in sources):
        return Changes(job, last, everything=True, versions=latest)
    news = Changes(job, last, versions=latest)
    for source, where in sources.items():
        if latest[source] > read[source]:
            news.feeds[source] = change_feed(job, source, read[source] + 1, latest[source]).where(where)
    return news


def change_feed(job: Job, source: str, first: int, last: int) -> DataFrame:
    """The changes of a table from version `first` to `last`.

    Under its name in capitals, which means the same table to every catalog but not to Spark's analyzer: within one
    query that resolves a name once, whatever the options, so where the feed and the rows of a table meet, one would be
    read as the other (Spark 4.1; tests/spark/test_change_feed.py).
    """
    feed = job.spark.read.option("readChangeFeed", "true").option("startingVersion", first)
    return feed.option("endingVersion", last).table(f"{job.catalog}.{source.upper()}")


def version(job: Job, table: str) -> int:
    """The latest version of a table.

    Delta says it, without reading a file, when it refuses a change feed that would begin later; its history costs ten
    times as much.
    """
    try:
        feed = job.spark.read.option("readChangeFeed", "true").option("startingVersion", NEVER).table(job.path(table))
        feed.schema  # noqa: B018 - Spark Connect asks the server only now
    except PySparkException as error:
        if refusal := BEYOND_LATEST.search(str(error)):
            return int(refusal[1])
    row = job.spark.sql(f"DESCRIBE HISTORY {job.path(table)} LIMIT 1").select("version").head()
    assert row is not None
    return int(row["version"])


def is_gone(error: PySparkException) -> bool:
    return any(sign in str(error) for sign in FEED_IS_GONE)


def touched_keys(table: Table, news: Changes) -> Slice:
    """The keys that changes touch; everything when a feed turns out to be gone on reading it."""
    if news.everything:
        return EVERYTHING
    try:
        return _union(table, table.touched(news))
    except PySparkException as error:
        if not is_gone(error):
            raise
        news.everything = True
        return EVERYTHING


def asked_for(job: Job, table: Table) -> Slice:
    """The keys of a rebuild: everything, those given (values of the key's first column), or those of the days given.

    A rebuild of days takes every source row of these days as changed, and the target's own rows of them as touched. The
    day is that of the fact: when a session began, a reading was taken, a member logged in; never when it arrived.
    """
    wanted, first = job.rebuild, table.key[0]
    if wanted.full:
        return EVERYTHING
    target = job.table(table.name)
    values = job.spark.createDataFrame([(key,) for key in wanted.keys], "key STRING")
    chosen = Slice.of(values.select(F.col("key").cast(target.schema[first].dataType).alias(first)))
    if not (wanted.from_date or wanted.to_date):
        return chosen

    def of_days(rows: DataFrame, time: str) -> DataFrame:
        return rows.where(F.col(time).cast("date").between(wanted.from_date or date.min, wanted.to_date or date.max))

    news, told = Changes(job), Changes(job)
    for source, where in table.sources.items():
        rows = job.table(source).where(where).withColumn("_change_type", F.lit("insert"))
        if source in TIMES:
            news.feeds[source] = of_days(rows, TIMES[source])
        elif source == MESSAGES:
            told.feeds[source] = rows
    frames = list(table.touched(news))
    time = table.time or TIMES.get(table.name) or next((name for name in table.key if name.endswith("_date")), None)
    if told.feeds and time:
        frames += [of_days(frame, time) for frame in table.touched(told)]
    if time:
        frames.append(of_days(target, time).withColumns({"since": F.col(time), "until": F.col(time)}))
    days = _union(table, frames)
    return days if not wanted.keys or days.frame is None else Slice.of(chosen.among(days.frame, first))


def _union(table: Table, frames: Iterable[DataFrame]) -> Slice:
    chosen = [frame.select(*table.slice_columns) for frame in frames]
    return Slice.of(reduce(DataFrame.union, chosen)) if chosen else NOTHING


def judge(job: Job, intake: Intake, news: Changes, where: str) -> None:
    """Count what arrived in a bronze table, and put what must be refused into quarantine, once."""
    arrived = job.table(intake.source).where(where) if news.everything else news.of(intake.source)
    if arrived is None:
        return
    if not news.everything:
        arrived = arrived.where("_change_type = 'insert'")
    judged = intake.judged(arrived)
    is_refused, place = F.col("reason").isNotNull(), F.col(intake.place)
    row = judged.agg(
        F.count(F.lit(1)).alias("arrived"),
        F.count(F.when(is_refused, True)).alias("refused"),
        F.count(F.when(~is_refused & F.expr(intake.ignored), True)).alias("ignored"),
        F.min(F.when(is_refused, place)).alias("first"),
        F.max(F.when(is_refused, place)).alias("last"),
    ).head()
    assert row is not None
    outcome, label = job.outcome, intake.label
    outcome.rows_in[label] = row["arrived"]
    outcome.rows_quarantined[label] = row["refused"]
    outcome.rows_ignored[label] = row["ignored"]
    if row["refused"]:
        among = place.between(row["first"], row["last"])
        quarantine.append(job.spark, job.catalog, intake.refused(judged), among)


def _count_duplicates(job: Job, table: Table, label: str) -> None:
    """Of records that each make one row: those that made none, since the row was there or another made it."""
    outcome = job.outcome
    if table.key == table.row_key and label in outcome.rows_in:
        said = outcome.rows_in[label] - outcome.rows_quarantined[label] - outcome.rows_ignored[label]
        outcome.rows_duplicate[label] = max(0, said - outcome.rows_out.get(table.name, 0))


def difference(
    wanted: DataFrame, existing: DataFrame, columns: Sequence[str], row_key: Sequence[str], old: Sequence[str] = ()
) -> DataFrame:
    """What must be done to `existing` so that it is `wanted`, both with `columns`: the wanted row (of a delete only its
    key), `_change` (insert, update or delete), and for each column in `old` its present value as `_old_<column>`.

    Of a key that `existing` holds more than once all copies go (delete) and the wanted row comes back (again).
    """
    left = wanted.select(*(F.col(name).alias(f"_left_{name}") for name in row_key), F.struct(*columns).alias("_wanted"))
    copies = existing.groupBy(*(F.col(name).alias(f"_right_{name}") for name in row_key))
    right = copies.agg(F.first(F.struct(*columns)).alias("_existing"), F.count("*").alias("_copies"))
    same = reduce(and_, (F.col(f"_left_{name}").eqNullSafe(F.col(f"_right_{name}")) for name in row_key))
    changes = (
        F.when(F.col("_existing").isNull(), F.array(F.lit("insert")))
        .when(F.col("_wanted").isNull(), F.array(F.lit("delete")))
        .when(F.col("_copies") > 1, F.array(F.lit("delete"), F.lit("again")))
        .when(~F.col("_wanted").eqNullSafe(F.col("_existing")), F.array(F.lit("update")))
    )
    key = [F.coalesce(f"_wanted.{name}", f"_existing.{name}").alias(name) for name in row_key]
    rest = [F.col(f"_wanted.{name}").alias(name) for name in columns if name not in row_key]
    before = [F.col(f"_existing.{name}").alias(f"_old_{name}") for name in old]
    changed = left.join(right, same, "full_outer").withColumn("_change", F.explode(changes))
    return changed.select("_change", *key, *rest, *before)


def merge(job: Job, table: Table, keys: Slice) -> None:
    """Make the target's rows of these keys what they should be. No difference: no commit. New rows only: an append."""
    try:
        with alone(job, table.name):
            _merge_alone(job, table, keys)
    except WrittenBeside as beside:
        logger.warning("%s The same keys are looked at once more.", beside)
        with alone(job, table.name):
            _merge_alone(job, table, keys)


@contextmanager
def alone(job: Job, table: str) -> Iterator[None]:
    """Let a write stand only if no other run has written the table since now, when its rows are about to be read.

    Two runs of a job can overlap: one that is cleared goes on for a moment while its successor starts. What it then
    writes rests on older sources, and rows that both insert would be there twice. So each write carries a transaction
    number that follows from the version of the table it has seen; Delta leaves out a write whose number is not above
    the last one's, and this one raises Overtaken. Where the table was packed between their looks the later one has the
    higher number: then WrittenBeside is raised, after the write.
    """
    seen = version(job, table)
    transaction = {
        "spark.databricks.delta.write.txnAppId": table,
        "spark.databricks.delta.write.txnVersion": str(seen + 1),
    }
    before = job.outcome.rows_out.get(table, 0)
    for name, value in transaction.items():
        job.spark.conf.set(name, value)
    job.spark.conf.unset(LAST_COMMIT)
    try:
        yield
    finally:
        for name in transaction:
            job.spark.conf.unset(name)
    if job.outcome.rows_out.get(table, 0) > before:
        committed = job.spark.conf.get(LAST_COMMIT, None)
        if committed is None:
            raise Overtaken(f"Another run has written {table} meanwhile. Nothing was written; run the job again.")
        job.outcome.target_versions[table] = int(committed)
        if int(committed) > seen + 1 and _written_between(job, table, seen, int(committed)):
            raise WrittenBeside(f"Another run has written {table} meanwhile, and so has this one.")


def _written_between(job: Job, table: str, first: int, last: int) -> bool:
    """Whether the table's rows were changed by a commit between these two."""
    history = job.spark.sql(f"DESCRIBE HISTORY {job.path(table)} LIMIT {last - first}")
    return not history.where(f"version > {first} AND version < {last} AND operation IN ('WRITE', 'MERGE')").isEmpty()


def _merge_alone(job: Job, table: Table, keys: Slice) -> None:
    target = job.table(table.name)
    columns = target.columns
    wanted = table.rows(job, keys).select(*columns)
    if keys.is_everything and version(job, table.name) == 0:
        _append(job, table, wanted)
        job.outcome.rows_out[table.name] = rows_of_last_commit(job, table.name)
        return
    differences = difference(wanted, table.existing(job, keys), columns, table.row_key, table.clustering)
    few = differences.limit(FEW_DIFFERENCES + 1).toArrow()
    bounds = [keys.within(f"target.{column}", column) for column in table.key]
    if few.num_rows <= FEW_DIFFERENCES:
        kinds = set(few.column("_change").to_pylist())
        job.outcome.rows_out[table.name] = few.num_rows
        if not kinds:
            return
        differences = job.spark.createDataFrame(few)
        if "again" not in kinds:
            before = Slice(differences, few.filter(pyarrow.compute.field("_change") != "insert"))
            bounds = [before.within(f"target.{column}", f"_old_{column}") for column in table.clustering]
    else:
        counted = differences.groupBy("_change").count().toArrow().to_pylist()
        kinds = {row["_change"] for row in counted}
        job.outcome.rows_out[table.name] = sum(row["count"] for row in counted)
    if kinds == {"insert"}:
        # of more than the client holds again: what has changed since is news for the next run
        _append(job, table, differences.where("_change = 'insert'").select(*columns))
    else:
        _merge(job, table, differences, columns, bounds)


def _append(job: Job, table: Table, rows: DataFrame) -> None:
    rows.writeTo(job.path(table.name)).append()


def _merge(job: Job, table: Table, differences: DataFrame, columns: list[str], bounds: list[str]) -> None:
    view = f"differences_of_{table.name.replace('.', '_')}"
    differences.createOrReplaceTempView(view)
    same = " AND ".join(f"target.{column} <=> source.{column}" for column in table.row_key)
    try:
        # Names are ours and bounds are typed values; nothing of a message is in this text.
        job.spark.sql(
            f"""
            MERGE INTO {job.path(table.name)} AS target USING {view} AS source
            ON {same} AND source._change <> 'again' AND {" AND ".join(bounds)}
            WHEN MATCHED AND source._change = 'delete' THEN DELETE
            WHEN MATCHED THEN UPDATE SET {", ".join(f"target.{column} = source.{column}" for column in columns)}
            WHEN NOT MATCHED THEN INSERT ({", ".join(columns)})
                VALUES ({", ".join(f"source.{column}" for column in columns)})
            """  # noqa: S608
        )
    finally:
        job.spark.catalog.dropTempView(view)


def rows_of_last_commit(job: Job, table: str) -> int:
    row = job.spark.sql(f"DESCRIBE HISTORY {job.path(table)} LIMIT 1").select("operationMetrics").head()
    return int(row["operationMetrics"].get("numOutputRows", 0)) if row else 0
