"""What bronze holds and the rules refuse against `ops.quarantine`: each refused record is there, and once.

Judged anew by the parsers, records of a bounded part of bronze: what arrived since the last clean look and has been
read by the job that judges, and what is new in the quarantine. A record that a replay has made accepted is no longer
expected there; one that the present rules accept and nobody has replayed is `unexpected`.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.incremental import TIMES, Intake, Table
from spark_jobs.job import LastRun
from spark_jobs.quality.comparison import Finding, compared, finding
from spark_jobs.quality.pinned import OUTCOMES, PROGRESS, Pinned
from spark_jobs.quarantine import KAFKA, QUARANTINE
from spark_jobs.slices import Slice

WHAT = "bronze = accepted + quarantined"
PLACE = ("source", "topic", "partition", "offset", "row_version", "key")
JUDGES = {"silver.workout_events": "workout", "silver.user_profile_changes": "user_profile"}
RECORD, VERSION = ("topic", "partition", "offset"), ("row_version",)


def audit(view: Pinned, table: Table, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    """The refused among the records that the job of `table` judges."""
    intake, done = table.intake, view.last_run_of(table.name)
    assert intake is not None
    if done is None:
        return [Finding(WHAT, intake.label, detail="its job has not run yet")], {}
    bronze, where = intake.source, table.sources[intake.source]
    read = done.source_versions[bronze]
    marks = {"bronze": f"{QUARANTINE}:{intake.label}<{bronze}", "quarantine": f"{QUARANTINE}:{intake.label}"}
    looked_at = {marks["bronze"]: read, marks["quarantine"]: view.pins[QUARANTINE]}
    judged_by_now, held = view.at(bronze, read).where(where), standing(view, intake.label)
    places = None if view.rebuild.full else _places(view, intake, where, read, marks, audited)
    expected = _refused(intake, judged_by_now if places is None else places.among(judged_by_now, *_place_of(intake)))
    found = held if places is None else places.among(held, *_place_of(intake))

    def pending() -> Slice:
        news = view.news({bronze: where}, LastRun({bronze: read}, view.clock))
        later = view.table(bronze).where(where) if news.everything else news.of(bronze)
        rows = _refused(intake, later if later is not None else judged_by_now.limit(0))
        return Slice.of(rows.select(*_place_of(intake)))

    return [finding(WHAT, intake.label, compared(expected, found, PLACE), PLACE, pending)], looked_at


def standing(view: Pinned, label: str) -> DataFrame:
    """The places of quarantined records of a topic or SQL table, without those that a replay has made accepted."""
    kafka = (F.col("source") == KAFKA) & (F.col("topic") == label)
    held = view.table(QUARANTINE).where(kafka | (F.col("source") == label)).select(*PLACE)
    latest = F.max_by("outcome", "decided_at").alias("outcome")
    accepted = view.table(OUTCOMES).groupBy(*PLACE).agg(latest).where("outcome = 'accepted'")
    same = [held[column].eqNullSafe(accepted[column]) for column in PLACE]
    return held.join(accepted, same, "left_anti")


def _places(
    view: Pinned, intake: Intake, where: str, read: int, marks: dict[str, str], audited: LastRun | None
) -> Slice | None:
    """The places to look at; None for all."""
    bronze = intake.source
    if view.rebuild:
        days = view.on_days(F.col(TIMES.get(bronze, "event_date")))  # messages by their arrival
        return Slice.of(_refused(intake, view.at(bronze, read).where(where).where(days)).select(*_place_of(intake)))
    if audited is None or not set(marks.values()) <= audited.source_versions.keys():
        return None
    since = {bronze: audited.source_versions[marks["bronze"]]}
    arrived = view.news({bronze: where}, LastRun(since, audited.clock))
    since = {QUARANTINE: audited.source_versions[marks["quarantine"]]}
    own = view.news({QUARANTINE: _of(intake)}, LastRun(since, audited.clock))
    if arrived.everything or own.everything:
        return None
    frames = []
    if (feed := arrived.of(bronze)) is not None:
        due = feed.where((F.col("_change_type") == "insert") & (F.col("_commit_version") <= read))
        frames.append(_refused(intake, due).select(*_place_of(intake)))
    if (feed := own.of(QUARANTINE)) is not None:
        frames.append(feed.select(*_place_of(intake)))
    empty = view.table(QUARANTINE).limit(0).select(*_place_of(intake))
    for frame in frames:
        empty = empty.union(frame)
    return Slice.of(empty)


def _refused(intake: Intake, records: DataFrame) -> DataFrame:
    return intake.refused(intake.judged(records)).select(*PLACE).distinct()


def _place_of(intake: Intake) -> tuple[str, ...]:
    return RECORD if intake.place == "offset" else VERSION


def _of(intake: Intake) -> str:
    return f"topic = '{intake.label}'" if intake.place == "offset" else f"source = '{intake.label}'"


def sums(view: Pinned, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    """What jobs and the stream have said of themselves: arrived = accepted + duplicate + ignored + quarantined."""
    since = F.lit("1970-01-01").cast("timestamp") if audited is None else F.lit(audited.clock)
    findings = []
    for job, label in JUDGES.items():
        runs = view.table("ops.job_runs").where((F.col("job") == job) & (F.col("status") == "succeeded"))
        runs = runs.where(F.map_contains_key("rows_in", label) & (F.col("ended_at") > since))
        told = _number("rows_out", job)
        for column in ("rows_duplicate", "rows_ignored", "rows_quarantined"):
            told = told + _number(column, label)
        findings.append(
            _summed(label, runs.select("run_id", _number("rows_in", label).alias("arrived"), told.alias("told")))
        )
    batches = (
        view.table(PROGRESS)
        .where(F.col("ended_at") > since)
        .select(
            F.concat_ws("/", "run_id", "first_batch").alias("run_id"),
            F.col("rows_in").alias("arrived"),
            F.expr("rows_accepted + rows_duplicate + rows_quarantined").alias("told"),
        )
    )
    return [*findings, _summed("bpm", batches)], {}


def _number(column: str, name: str) -> Column:
    return F.coalesce(F.try_element_at(column, F.lit(name)), F.lit(0))


def _summed(label: str, runs: DataFrame) -> Finding:
    unequal = F.col("arrived") != F.col("told")
    row = runs.agg(
        F.coalesce(F.sum("arrived"), F.lit(0)).alias("arrived"),
        F.coalesce(F.sum("told"), F.lit(0)).alias("told"),
        F.count_if(unequal).alias("wrong"),
        F.min(F.when(unequal, F.col("run_id"))).alias("first"),
    ).head()
    assert row is not None
    detail = f"first of these runs: {row['first']}" if row["wrong"] else None
    what = "runs say arrived = accepted + duplicate + ignored + quarantined"
    return Finding(what, label, row["arrived"], row["told"], changed=row["wrong"], detail=detail)
