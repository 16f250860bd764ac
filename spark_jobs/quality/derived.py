"""Each table of silver and gold against its rows computed anew from beneath, by the job's own functions.

Looked at is what changed since the last clean look: keys that news in the sources touch, and keys that changed in the
table itself, whoever did that. A difference at a key that is touched by what the table's job has not read yet is
pending. What the functions themselves get wrong is not seen here: for that there are sums.py and the tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.gold import gym_activity, user_activity, workout_completion, workout_summary
from spark_jobs.incremental import Changes, Table, asked_for
from spark_jobs.job import LastRun
from spark_jobs.quality.comparison import Finding, compared, finding
from spark_jobs.quality.pinned import Pinned
from spark_jobs.rules import LONGEST_SESSION
from spark_jobs.silver import (
    gym_visits,
    user_devices,
    user_profile,
    user_profile_changes,
    user_profile_history,
    users,
    workout_events,
    workout_heart_rate,
    workout_sessions,
)
from spark_jobs.slices import EVERYTHING, NOTHING, Slice

TABLES: list[Table] = [
    module.TABLE
    for module in (
        users,
        user_devices,
        user_profile_changes,
        user_profile,
        user_profile_history,
        gym_visits,
        workout_events,
        workout_sessions,
        workout_heart_rate,
        workout_summary,
        workout_completion,
        gym_activity,
        user_activity,
    )
]
WHAT = "rows computed anew"


def audit(view: Pinned, table: Table, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    """What differs, and up to which versions the table and what its job has read of its sources were looked at."""
    done = view.last_run_of(table.name)
    if done is None:
        return [Finding(WHAT, table.name, detail="its job has not run yet")], {}
    keys = scope(view, table, audited, done)
    looked_at = {table.name: view.pins[table.name]}
    looked_at |= {mark(table, source): done.source_versions[source] for source in table.sources}
    if keys.is_nothing:
        return [Finding(WHAT, table.name)], looked_at
    differences = compared(
        table.rows(view, keys).select(*view.table(table.name).columns), table.existing(view, keys), table.row_key
    )
    return [finding(WHAT, table.name, differences, table.row_key, Pending(view, table, done))], looked_at


def mark(table: Table, source: str) -> str:
    """How the books call the version of a source up to which its effect on a table was looked at."""
    return f"{table.name}<{source}"


class Pending:
    """The keys that news touch which the table's job has not read; found only when asked for."""

    def __init__(self, view: Pinned, table: Table, done: LastRun) -> None:
        self._view, self._table, self._done = view, table, done

    def __call__(self) -> Slice:
        news = self._view.news(self._table.sources, self._done)
        return EVERYTHING if news.everything else _union(self._table.touched(news), self._table.key)


def scope(view: Pinned, table: Table, audited: LastRun | None, done: LastRun) -> Slice:
    """The keys to look at."""
    columns = tuple(name for name in table.slice_columns if name not in table.carried)
    if view.rebuild:
        asked = asked_for(view, table)
        return asked if asked.frame is None else Slice.of(asked.frame.select(*_read_from_beneath(table, columns)))
    marks = {source: mark(table, source) for source in table.sources}
    if audited is None or not {table.name, *marks.values()} <= audited.source_versions.keys():
        return EVERYTHING
    since = {source: audited.source_versions[name] for source, name in marks.items()}
    news = view.news(table.sources, LastRun(since, audited.clock))
    own = view.news({table.name: "TRUE"}, audited)
    if news.everything or own.everything:
        return EVERYTHING
    changed = own.of(table.name)
    if table.intake and set(table.key) | set(table.carried) == set(view.table(table.name).columns):
        return _doubted(view, table, news, changed, done)
    frames = [frame.select(*columns) for frame in table.touched(news)]
    if changed is not None:
        if table.time:  # rows of one key lie within a session, at most so long before and after this one
            later = f"least({table.time} + {LONGEST_SESSION}, TIMESTAMP'9999-12-31 23:59:59.999999Z')"
            near = {"since": f"{table.time} - {LONGEST_SESSION}", "until": later}
            changed = changed.withColumns({name: F.expr(moment) for name, moment in near.items()})
        frames.append(changed.select(*columns))
    return _union(frames, columns)


def _doubted(view: Pinned, table: Table, news: Changes, changed: DataFrame | None, done: LastRun) -> Slice:
    """Of a table whose rows are what messages say: where bronze and the table do not say the same at first sight.

    To look at one key from beneath means to read the whole topic, since bronze does not know keys.
    """
    said = [*table.key, *table.carried]
    told = list(table.touched(news))
    read = {
        source: feed.where(F.col("_commit_version") <= done.source_versions[source])
        for source, feed in news.feeds.items()
    }
    due = list(table.touched(Changes(news.job, news.last, feeds=read)))
    doubted = []
    for frame in due:
        present = Slice.of(frame.select(*table.key)).among(view.table(table.name), *table.key)
        doubted.append(frame.select(*said).exceptAll(present.select(*said)))
    if changed is not None:
        # a row that is there more often than it was said, or never was
        doubted.append(reduce(DataFrame.exceptAll, [frame.select(*said) for frame in told], changed.select(*said)))
    return _union(doubted, _read_from_beneath(table, table.key))


def _read_from_beneath(table: Table, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of a slice for which `rows` must look at bronze: a slice that is the row itself would be believed."""
    return columns[:-1] if table.intake and len(table.key) > 1 and columns == table.key else columns


def _union(frames: Iterable[DataFrame], columns: tuple[str, ...]) -> Slice:
    chosen = [frame.select(*columns) for frame in frames]
    return Slice.of(reduce(DataFrame.union, chosen)) if chosen else NOTHING
