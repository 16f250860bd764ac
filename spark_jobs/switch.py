"""Rebuild of a table that the always-on stream writes: what differs is found beside it, and replaced while it rests.

`prepare` compares what should be with what is and stages the keys that differ in `ops.rebuild_differences`. Nothing
differs: the stream is left alone. `switch` runs while the stream is stopped, so the table keeps its one writer, and for
no longer than these few keys take: it replaces their rows in one commit, by what is known then. Both can be repeated:
a prepare stages anew, a switch that finds all rows as they should be writes nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs import job
from spark_jobs.files import plain_path, replace_file
from spark_jobs.incremental import FEW_DIFFERENCES, LAST_COMMIT, version
from spark_jobs.slices import EVERYTHING, Slice

DIFFERENCES = "ops.rebuild_differences"
PATIENCE_SECONDS = 30.0  # a batch of the stream that is under way has surely ended by then
RECENT_COMMITS = 20  # of a table, among which a commit beside ours would be
ONE_DAY = timedelta(days=1)

logger = logging.getLogger("fitness")

Key = tuple[str, str]  # device_id, and the time


class NotAsked(ValueError):
    """The job was started without saying what to rebuild."""


class TooLate(Exception):
    """The stream may go on before the switch is over."""


class NotAlone(Exception):
    """Somebody else wrote the table during the switch."""


def asked_for(run: job.Job) -> Slice:
    """The extent of a rebuild: everything, or `device_id`s, `day`s (UTC), or both."""
    wanted = run.rebuild
    if wanted.full:
        return EVERYTHING
    frames = []
    if wanted.keys:
        frames.append(run.spark.createDataFrame([(int(key),) for key in wanted.keys], "device_id BIGINT"))
    if wanted.from_date and wanted.to_date:
        days = [
            (wanted.from_date + number * ONE_DAY,) for number in range((wanted.to_date - wanted.from_date).days + 1)
        ]
        frames.append(run.spark.createDataFrame(days, "day DATE"))
    if not frames or bool(wanted.from_date) != bool(wanted.to_date):
        raise NotAsked("The stream keeps this table up to date. To rebuild it say --full, --keys (device ids), or both"
                       " --from-date and --to-date.")  # fmt: skip
    return Slice.of(frames[0] if len(frames) == 1 else frames[0].crossJoin(frames[1]))


def among(keys: Slice, rows: DataFrame, key: Key) -> DataFrame:
    """The rows of the keys, devices or days in a slice."""
    return keys.among(rows, *key).where(keys.on_days(key[1], "day"))


def different(wanted: DataFrame, held: DataFrame, key: Key, columns: Sequence[str]) -> DataFrame:
    """The keys of which `held` has not exactly the one row that `wanted` has.

    Returns the key, `wanted` and `held` (structs of `columns`, NULL where there is no row), `copies` in `held`, and
    what else `wanted` has.
    """
    others = [name for name in wanted.columns if name not in columns]
    counted = held.groupBy(*key).agg(F.count("*").alias("copies"), F.min(F.struct(*columns)).alias("held"))
    both = wanted.select(*key, F.struct(*columns).alias("wanted"), *others).join(counted, list(key), "full_outer")
    return both.where("copies > 1 OR NOT (wanted <=> held)")


def stage(run: job.Job, name: str, rows: DataFrame, beneath: int) -> int:
    """Put keys that differ (device_id, at, bpm) in the place of those that an earlier rebuild staged; how many."""
    staged_rows = rows.select(
        F.lit(run.arguments.rebuild).alias("rebuild"),
        F.lit(name).alias("table_name"),
        "device_id",
        "at",
        F.col("bpm").cast("double").alias("bpm"),
        F.lit(beneath).cast("bigint").alias("source_version"),
    )
    staged_rows.writeTo(run.path(DIFFERENCES)).overwrite(F.col("table_name") == name)
    return staged(run, name).count()


def staged(run: job.Job, name: str) -> DataFrame:
    """What this rebuild has staged for a table."""
    mine: Column = (F.col("rebuild") == run.arguments.rebuild) & (F.col("table_name") == name)
    return run.table(DIFFERENCES).where(mine)


def put_in_place(run: job.Job, name: str, key: Key, keys: Slice, wanted: DataFrame) -> None:
    """Make the rows of these keys what is wanted, also where a key is held twice. One commit; none without difference.

    Raises TooLate before anything is done; NotAlone, after the commit, when the table has been written meanwhile:
    prepare again, it finds what is wrong.
    """
    latest = run.arguments.begin_by
    if latest and datetime.now(UTC) > latest:
        raise TooLate(
            f"The stream rests for a switch that begins by {latest}. This table was not touched: rebuild again."
        )
    before, target = version(run, name), run.table(name)
    differing = different(wanted.select(*target.columns), among(keys, target, key), key, target.columns)
    goes = differing.where("held IS NOT NULL").select(F.lit(True).alias("_goes"), "held.*")
    comes = differing.where("wanted IS NOT NULL").select(F.lit(False).alias("_goes"), "wanted.*")
    rows = goes.union(comes)
    few = rows.limit(FEW_DIFFERENCES + 1).toArrow()
    if not few.num_rows:
        return
    if few.num_rows <= FEW_DIFFERENCES:  # computed once, and small enough to be held here
        rows = run.spark.createDataFrame(few)
    touched = Slice.of(rows.select(*key))
    run.outcome.rows_out[name] = touched.count()
    bounds = " AND ".join(touched.within(f"target.{column}", column) for column in key)
    same = " AND ".join(f"target.{column} = source.{column}" for column in key)
    columns = ", ".join(target.columns)
    view = f"rows_of_{name.replace('.', '_')}"
    try:
        rows.createOrReplaceTempView(view)
        run.spark.conf.unset(LAST_COMMIT)
        # What goes matches each copy of its key; what comes matches nothing, and is new.
        run.spark.sql(
            f"""
            MERGE INTO {run.path(name)} AS target USING {view} AS source
            ON source._goes AND {same} AND {bounds}
            WHEN MATCHED THEN DELETE
            WHEN NOT MATCHED AND NOT source._goes THEN INSERT ({columns})
                VALUES ({", ".join(f"source.{column}" for column in target.columns)})
            """  # noqa: S608 - names are ours and bounds are typed values
        )
        run.outcome.target_versions[name] = int(str(run.spark.conf.get(LAST_COMMIT)))
        history = run.spark.sql(f"DESCRIBE HISTORY {run.path(name)} LIMIT {RECENT_COMMITS}")
        if history.where(f"version > {before} AND operation <> 'OPTIMIZE'").count() != 1:
            raise NotAlone(f"Somebody wrote {name} during the switch. Rebuild again, it finds what is wrong.")
    finally:
        run.spark.catalog.dropTempView(view)


def main(
    name: str,
    argv: Sequence[str],
    prepare: Callable[[job.Job, Slice], int],
    switch: Callable[[job.Job], None],
    tables: Sequence[str],
) -> int:
    """`prepare`: stages what differs in an extent, and returns how many keys. `switch`: puts it in place."""

    def work(run: job.Job) -> None:
        asked = asked_for(run)
        if run.arguments.phase == "switch":
            switch(run)
            return
        run.outcome.touched = run.outcome.rows_out[DIFFERENCES] = found = prepare(run, asked)
        logger.info("%s: %s keys differ", name, found)
        if run.arguments.report:
            said = {"rebuild": run.arguments.rebuild, "differences": found}
            replace_file(plain_path(run.arguments.report), json.dumps(said))

    return job.run(name, argv, work, [*tables, name, DIFFERENCES], _arguments(name))


def _arguments(name: str) -> argparse.ArgumentParser:
    given = job.parser(name)
    given.add_argument(
        "--phase", choices=("prepare", "switch"), default="prepare", help="switch: the stream is stopped"
    )
    given.add_argument("--rebuild", default="", help="what prepare and switch have in common")
    given.add_argument("--begin-by", type=job.moment, help="touch nothing when it is later, ISO-8601 with offset")
    given.add_argument("--report", help="URI of the file in which prepare says how many keys differ")
    given.add_argument("--patience-seconds", type=float, default=PATIENCE_SECONDS, help="for the stream's open batch")
    return given
