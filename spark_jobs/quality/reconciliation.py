"""`ops.reconciliation`: one row is one comparison of two layers by one run.

Sources with bronze, bronze with silver and quarantine, silver and gold with what lies beneath them. A run looks at what
changed, by event or arrival or by whoever wrote a table, since the last run that found nothing; so a defect is
reported until it is repaired. `--full` looks at everything, `--from-date` and `--to-date` at some days. Rows that their
job has not read yet are pending, not defects. Findings are written, then the job fails if one of them is a defect.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial

from pyspark.errors import PySparkException

from spark_jobs import job
from spark_jobs.declarations import declared
from spark_jobs.incremental import is_gone
from spark_jobs.job import LastRun
from spark_jobs.quality import derived, periods, readings, refused, sources, sums, topics
from spark_jobs.quality.comparison import RECONCILIATION, Finding, write
from spark_jobs.quality.pinned import made_of, pin

NAME = "quality.reconciliation"
STREAM_SECONDS = 90.0  # by when a stream that goes on has ended a batch, and said so

Audit = Callable[[LastRun | None], tuple[list[Finding], dict[str, int]]]
logger = logging.getLogger("fitness")


class DefectsFound(Exception):
    """Tables do not hold what they should; the rows are in `ops.reconciliation`."""


class NotCompared(Exception):
    """A comparison could not be made."""


def reconcile(run: job.Job) -> None:
    """Compare, write what was found, and raise DefectsFound or NotCompared when that is not what it should be."""
    audited = run.last_run()
    view = pin(run, [readings.TRENDS, *made_of(derived.TABLES)])
    given = run.arguments
    audits: dict[str, Audit] = {}
    if given.jdbc_url:
        audits |= {source.table: partial(sources.audit, view, source) for source in sources.SOURCES}
    if given.bootstrap_servers:
        audits["topics"] = partial(topics.audit, view, given.topics.split(","))
    audits |= {f"quarantine of {it.name}": partial(refused.audit, view, it) for it in derived.TABLES if it.intake}
    audits["readings"] = partial(readings.audit, view, given.patience_seconds)
    audits |= {table.name: partial(derived.audit, view, table) for table in derived.TABLES}
    audits["sums"] = partial(sums.audit, view)
    audits["what runs said"] = partial(refused.sums, view)
    audits["periods"] = partial(periods.audit, view)

    findings: list[Finding] = []
    failed: dict[str, Exception] = {}
    for name, audit in audits.items():
        try:
            found, looked_at = since_last(audit, audited)
        except Exception as error:
            logger.exception("%s could not be compared.", name)
            failed[name] = error
            continue
        findings += found
        run.outcome.source_versions |= looked_at
        for finding in found:
            logger.log(logging.ERROR if finding.defects else logging.INFO, "%s", finding)
    write(run.spark, run.catalog, run.run_id, run.clock, findings)
    run.outcome.rows_out[RECONCILIATION] = len(findings)
    run.outcome.touched = sum(finding.expected for finding in findings)
    if defects := [finding for finding in findings if finding.defects]:
        raise DefectsFound(f"{len(defects)} of {len(findings)} comparisons:\n" + "\n".join(map(str, defects)))
    if failed:
        raise NotCompared("; ".join(f"{name}: {first_line(error)}" for name, error in failed.items()))


def first_line(error: Exception) -> str:
    """What an error says, or its class when it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def since_last(audit: Audit, audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    """Look at what is new since the last clean look, or at everything where a change feed is gone."""
    try:
        return audit(audited)
    except PySparkException as error:
        if audited is None or not is_gone(error):
            raise
        return audit(None)


def arguments() -> argparse.ArgumentParser:
    parser = job.parser(NAME)
    parser.add_argument("--bootstrap-servers", help="Kafka; without it topics are not compared with bronze")
    parser.add_argument("--kafka-option", action="append", default=[], help="name=value for the consumer, no secrets")
    parser.add_argument("--topics", default="workout,user_profile,bpm", help="separated by commas")
    parser.add_argument("--jdbc-url", help="the SQL source; without it its tables are not compared with bronze")
    parser.add_argument("--sql-user", help="its password: FITNESS_SQL_PASSWORD or the secret scope")
    parser.add_argument("--patience-seconds", type=float, default=STREAM_SECONDS, help="for the stream's open batch")
    return parser


def main(argv: list[str]) -> int:
    return job.run(NAME, argv, reconcile, declared(), arguments())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
