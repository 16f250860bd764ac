"""Small files packed and unused ones deleted, in every table; what each table holds stays as it is.

The tables that the always-on stream writes are packed by the stream (the trends between two of its batches, the others
beside them), but for the topics of the multiplex that it does not read; their unused files are deleted here. What
another run is writing at that moment is left for the next time. Files go when nothing has referred to them for
`--retain-hours`: as far back a table can be read as it was, and a change feed be followed.
"""

from __future__ import annotations

import argparse
import logging
import sys

from pyspark.errors import PySparkException

from spark_jobs import conflicts, job, packing
from spark_jobs.declarations import declared
from spark_jobs.streaming.batch import HEART_RATE, MULTIPLEX, TRENDS

NAME = "ops.maintenance"
OF_THE_STREAM = (HEART_RATE, TRENDS)
PARTS = {MULTIPLEX: "WHERE topic <> 'bpm'"}  # the stream packs the rest
WEEK_HOURS = 168  # Delta refuses less: a reader or a writer could be that slow
MANY_FILES = 20

logger = logging.getLogger("fitness")


def maintain(run: job.Job) -> None:
    packing.configure(run.spark)
    for table in declared():
        if table not in OF_THE_STREAM:
            pack(run, table, PARTS.get(table, ""))
        run.spark.sql(f"VACUUM {run.path(table)} RETAIN {run.arguments.retain_hours} HOURS").collect()


def pack(run: job.Job, table: str, where: str = "") -> None:
    detail = run.spark.sql(f"DESCRIBE DETAIL {run.path(table)}").select("numFiles").head()
    files = detail["numFiles"] if detail else 0
    if files < run.arguments.many_files:
        return
    try:
        removed, added = packing.pack(run.spark, run.path(table), where)
    except PySparkException as error:
        if not conflicts.is_one_of(error):
            raise
        logger.info("%s is being written; its %s files are packed the next time", table, files)
        return
    logger.info("%s: %s of its %s files became %s", table, removed, files, added)


def arguments() -> argparse.ArgumentParser:
    given = job.parser(NAME)
    given.add_argument("--retain-hours", type=int, default=WEEK_HOURS, help="how long unused files are kept")
    given.add_argument("--many-files", type=int, default=MANY_FILES, help="pack a table that has so many")
    return given


def main(argv: list[str]) -> int:
    return job.run(NAME, argv, maintain, declared(), arguments())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
