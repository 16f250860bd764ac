"""SQL tables against bronze: each row's present version is the latest living one in bronze, and nothing else lives.

Compared are row versions from the last clean look up to what the extraction has said it had read; both sides are also
counted, and only if the counts differ, or bronze was not only appended to, all rows are compared. What the source has
got since the extraction is pending.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.bronze import gym_visits, registrations
from spark_jobs.bronze.extraction import ERASURE, Database, Source, living
from spark_jobs.job import LastRun
from spark_jobs.quality.comparison import SAMPLES, Finding, compared, finding
from spark_jobs.quality.pinned import Pinned
from spark_jobs.slices import Slice

SOURCES = (registrations.SOURCE, gym_visits.SOURCE)
WHAT = "source = bronze"
LATEST = 2**63 - 1
CONTENT = "content"


def audit(view: Pinned, source: Source, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    done = view.last_run_of(source.target)
    if done is None:
        return [Finding(WHAT, source.table, detail="its job has not run yet")], {}
    high, database = done.source_versions[source.table], Database(view)
    looked_at = {f"source:{source.table}": high, f"source:{source.target}": view.pins[source.target]}
    read = {} if audited is None or view.rebuild else audited.source_versions
    bronze = view.table(source.target).where(F.col("row_version") < high)
    now = living(bronze, source)
    removed, low = _not_appended(view, source, read)
    alive, present = now.count(), database.number(database.dialect.count(source.table, high))
    if low and alive != present + _rows(database, source, high, LATEST).join(now, source.key, "left_semi").count():
        low = 0
    wanted = _rows(database, source, low, high)
    existing = now.select(*wanted.columns)
    if low:
        existing = Slice.of(wanted.select(source.key)).among(existing, source.key)

    def pending() -> Slice:
        news = _rows(database, source, high, LATEST).select(source.key)
        lost = wanted.join(now, source.key, "left_anti").count()
        if alive + lost == done.source_versions[source.live]:  # none too many: what the source lacks was deleted since
            keys = database.rows(database.dialect.keys(source.table, source.key))
            news = news.union(now.select(source.key).join(keys, source.key, "left_anti"))
        return Slice.of(news)

    found = finding(WHAT, source.table, compared(wanted, existing, [source.key]), [source.key], pending)
    return [_with_versions(found, source, bronze.where(F.col("row_version") >= low), removed)], looked_at


def _rows(database: Database, source: Source, low: int, high: int) -> DataFrame:
    versions = database.rows(database.dialect.versions(source.table, source.columns, low, high))
    typed = [F.col(name).cast(kind).alias(name) for name, kind in source.columns.items()]
    return versions.select(*typed, F.col("row_version").cast("bigint").alias("row_version"))


def _not_appended(view: Pinned, source: Source, read: dict[str, int]) -> tuple[DataFrame | None, int]:
    """Rows that bronze held at the last clean look and that were changed or removed since, whatever came back; and from
    which version on to compare."""
    since, low = read.get(f"source:{source.target}"), read.get(f"source:{source.table}", 0)
    if since is None:
        return None, 0
    news = view.news({source.target: "TRUE"}, LastRun({source.target: since}, view.clock))
    if news.everything:
        return None, 0
    feed = news.of(source.target)
    if feed is None:
        return None, low
    history = view.spark.sql(f"DESCRIBE HISTORY {view.catalog}.{source.target}").where(F.col("version") > since)
    erasing = history.where(F.startswith("userMetadata", F.lit(ERASURE))).select("version")
    kept = feed.where("_change_type <> 'update_postimage'")
    kept = kept.join(erasing, F.expr("_commit_version = version"), "left_anti")
    # What the look saw is the first that is told of a place; what was not there yet is for the source to judge.
    order = F.struct("_commit_version", F.expr("_change_type = 'insert'"))
    first = kept.groupBy(*_place(source)).agg(
        F.min_by(F.struct("_change_type", _content(source)), order).alias("first")
    )
    removed = first.where("first._change_type <> 'insert'").select(*_place(source), f"first.{CONTENT}")
    is_old = reduce(or_, [F.col("_change_type") != "insert", F.col("row_version") < low])
    return removed, 0 if feed.where(is_old).limit(1).count() else low


def _place(source: Source) -> list[str]:
    return [source.key, "row_version", "is_deleted"]


def _content(source: Source) -> Column:
    """All that bronze says of a row, but for when it came."""
    return F.struct(*source.columns, "row_version", "is_deleted").alias(CONTENT)


def _with_versions(found: Finding, source: Source, versions: DataFrame, removed: DataFrame | None) -> Finding:
    """With versions that bronze holds twice, and those that it does not hold any more."""
    place = [source.key, "row_version"]
    doubled = versions.groupBy(*_place(source)).count().where("count > 1")
    kinds = {"doubled": doubled.selectExpr(*place, "count - 1 AS rows")}
    if removed is not None:
        held = versions.select(_content(source).alias("_held"))
        gone = removed.join(held, F.col(CONTENT).eqNullSafe(F.col("_held")), "left_anti")
        kinds["missing"] = gone.select(*place, F.lit(1).alias("rows"))
    number, named = {}, [found.detail] if found.detail else []
    for kind, rows in kinds.items():
        samples = rows.limit(SAMPLES).toArrow().to_pylist()
        if samples:
            number[kind] = getattr(found, kind) + int((rows.agg(F.sum("rows")).head() or [0])[0])
            named += [f"{kind} version {', '.join(f'{name}={row[name]}' for name in place)}" for row in samples]
    return Finding(**{**vars(found), **number, "detail": "; ".join(named) or None})
