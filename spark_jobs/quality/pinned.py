"""Tables at fixed versions, so that what is compared holds still while the pipeline goes on.

Pinned are first the books (what jobs, the stream and replays have said), then each table before those it is made of.
So a table never knows of more than its sources do, and whatever its sources got since the books were written is known
to be news that its job may or may not have read: pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from pyspark.sql import Column

from spark_jobs import job
from spark_jobs.incremental import Changes, Table, changes, version
from spark_jobs.job import JOB_RUNS, LastRun, Outcome
from spark_jobs.quarantine import QUARANTINE

PROGRESS = "ops.stream_progress"
OUTCOMES = "ops.quarantine_outcomes"
BOOKS = (JOB_RUNS, PROGRESS, OUTCOMES)


@dataclass(frozen=True)
class Pinned(job.Job):
    """A job that sees tables at the versions in `pins`, and `read` as its last good run. It writes nothing."""

    read: LastRun | None = None

    def last_run(self) -> LastRun | None:
        return self.read

    def news(self, sources: Mapping[str, str], read: LastRun) -> Changes:
        """What is new in `sources` (with a predicate on each) to one who has read so far; nothing is asked of a table
        that is still at that version."""
        reader = replace(self, read=read, outcome=Outcome())
        fresh = {name: where for name, where in sources.items() if self.pins[name] != read.source_versions[name]}
        return changes(reader, fresh) if fresh else Changes(reader, read)

    def on_days(self, time: Column) -> Column:
        """That a date or timestamp is on one of the days asked for."""
        return time.cast("date").between(self.rebuild.from_date or date.min, self.rebuild.to_date or date.max)

    def last_run_of(self, name: str) -> LastRun | None:
        """The last good run of the job of that name, in the pinned books."""
        return job.Job.last_run(replace(self, name=name))


def pin(run: job.Job, tables: list[str]) -> Pinned:
    """`tables`: each before those it is made of."""
    versions = {name: version(run, name) for name in (*BOOKS, *tables, QUARANTINE) if not name.startswith("bronze.")}
    versions |= {name: version(run, name) for name in tables if name.startswith("bronze.")}
    return Pinned(
        name=run.name,
        spark=run.spark,
        platform=run.platform,
        catalog=run.catalog,
        run_id=run.run_id,
        # later than that of any run which has written what is pinned
        clock=run.arguments.now or datetime.now(UTC),
        rebuild=run.rebuild,
        arguments=run.arguments,
        pins=versions,
    )


def made_of(tables: list[Table]) -> list[str]:
    """Names of the tables and of their sources, each before those it is made of."""
    by_name = {table.name: table for table in tables}
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        for source in by_name[name].sources if name in by_name else ():
            visit(source)
        ordered.append(name)

    for name in by_name:
        visit(name)
    return ordered[::-1]
