"""Sums over the days of gold against sums over silver, that share no code with the jobs that made the tables.

Silver is pinned as it is, so days with rows that the gold job has not read yet are pending.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.job import LastRun
from spark_jobs.quality.comparison import Finding, compared, finding
from spark_jobs.quality.derived import TABLES, mark
from spark_jobs.quality.pinned import Pinned
from spark_jobs.slices import EVERYTHING, NOTHING, Slice

WHAT = "sums by day"


@dataclass(frozen=True)
class Sum:
    """`measure` of `rows` (a table of silver with a predicate) by the UTC day of `time` = `total` by `day` of gold."""

    silver: str
    where: str
    time: str
    measure: str
    gold: str
    day: str
    total: str


SUMS = (
    Sum("silver.workout_sessions", "status = 'completed'", "started_at", "count(*)", "gold.workout_summary",
        "to_date(started_at)", "count(*)"),
    Sum("silver.workout_sessions", "started_at IS NOT NULL", "started_at", "count(*)", "gold.workout_completion",
        "workout_date", "sum(started)"),
    Sum("silver.workout_sessions", "started_at IS NOT NULL", "started_at", "count(*)", "gold.user_activity",
        "activity_date", "sum(sessions)"),
    Sum("silver.gym_visits", "TRUE", "login_at", "count(*)", "gold.gym_activity", "activity_date", "sum(visits)"),
    Sum("silver.gym_visits", "user_id IS NOT NULL", "login_at", "count(*)", "gold.user_activity", "activity_date",
        "sum(visits)"),
)  # fmt: skip


def audit(view: Pinned, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    return [_compare(view, one, audited) for one in SUMS], {}


def _compare(view: Pinned, it: Sum, audited: LastRun | None) -> Finding:
    done = view.last_run_of(it.gold)
    scope = f"{it.silver} = {it.gold} {it.total}"
    if done is None:
        return Finding(WHAT, scope, detail="its job has not run yet")
    days = _days(view, it, audited)
    if days.is_nothing:
        return Finding(WHAT, scope)
    rows = view.table(it.silver).where(it.where).where(days.on_days(it.time, "day"))
    wanted = rows.groupBy(F.to_date(it.time).alias("day")).agg(F.expr(it.measure).cast("bigint").alias("total"))
    gold = view.table(it.gold).withColumn("day", F.expr(it.day)).where(days.within("day"))
    found = gold.groupBy("day").agg(F.expr(it.total).cast("bigint").alias("total")).where("total > 0")

    def pending() -> Slice:
        news = view.news({it.silver: "TRUE"}, done)
        if news.everything:
            return EVERYTHING
        feed = news.of(it.silver)
        return NOTHING if feed is None else Slice.of(feed.select(F.to_date(it.time).alias("day")))

    return finding(
        WHAT, scope, compared(days.among(wanted, "day"), days.among(found, "day"), ("day",)), ("day",), pending
    )


def _days(view: Pinned, it: Sum, audited: LastRun | None) -> Slice:
    """The days of rows that changed since the last clean look."""
    silver, gold = view.table(it.silver).where(it.where), view.table(it.gold)
    by_day = {it.silver: F.to_date(it.time), it.gold: F.expr(it.day)}
    if view.rebuild and not view.rebuild.full:
        between = view.on_days(F.col("day"))
        frames = [frame.select(by_day[name].alias("day")).where(between) for name, frame in
                  ((it.silver, silver), (it.gold, gold))]  # fmt: skip
        return Slice.of(reduce(DataFrame.union, frames))
    source = next(mark(table, it.silver) for table in TABLES if table.name == it.gold)
    if view.rebuild or audited is None or not {source, it.gold} <= audited.source_versions.keys():
        return EVERYTHING
    since = {it.silver: audited.source_versions[source], it.gold: audited.source_versions[it.gold]}
    news = view.news({it.silver: it.where, it.gold: "TRUE"}, LastRun(since, audited.clock))
    if news.everything:
        return EVERYTHING
    frames = [feed.select(by_day[name].alias("day")) for name, feed in news.feeds.items()]
    return Slice.of(reduce(DataFrame.union, frames)) if frames else NOTHING
