"""`ops.quarantine_outcomes`: one row says what became of a quarantined record when it was judged again.

Records of `ops.quarantine` are chosen, found in bronze and judged by the present rules. Of those accepted now the keys
are recomputed from bronze by the owning jobs' own functions, as in a rebuild. Of topic bpm the stream is the one
writer: its records are produced onto the topic once more, and have been accepted when silver holds them. Then outcomes
are appended; the quarantine itself is never changed. A dry run (the default) only judges and says how many.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, kafka
from spark_jobs.incremental import Changes, Intake, Table, merge, touched_keys
from spark_jobs.quarantine import KAFKA, QUARANTINE, Reason, refused_records
from spark_jobs.silver import gym_visits, user_devices, user_profile_changes, users, workout_events
from spark_jobs.slices import Slice
from spark_jobs.streaming import readings
from spark_jobs.streaming.batch import HEART_RATE, MULTIPLEX

NAME = "ops.quarantine_replay"
OUTCOMES = "ops.quarantine_outcomes"
PLACE = ("source", "topic", "partition", "offset", "row_version", "key")
STREAM_SECONDS = 180.0  # a stream that starts anew takes records in within this time

READINGS = Intake(MULTIPLEX, "bpm", readings.parsed, refused_records, "offset")
# Who recomputes what, by the topic or SQL table of the record; the first judges.
OWNERS: dict[str, list[Table]] = {
    "workout": [workout_events.TABLE],
    "user_profile": [user_profile_changes.TABLE],
    "app.registered_users": [users.TABLE, user_devices.TABLE],
    "app.gym_visits": [gym_visits.TABLE],
    "bpm": [],
}
logger = logging.getLogger("fitness")


class NotTakenIn(Exception):
    """The stream has not accepted what was produced again."""


def replay(run: job.Job) -> None:
    if run.rebuild:
        raise ValueError("A replay chooses records by its own arguments, not by those of a rebuild.")
    label, owners = run.arguments.label, OWNERS[run.arguments.label]
    intake = owners[0].intake if owners else READINGS
    assert intake is not None
    with job.kept(judge(run, intake, chosen(run, label))) as kept:
        judged = with_conflicts(run, kept) if label == "bpm" else kept
        counted = judged.groupBy(F.coalesce("reason", F.lit("accepted")).alias("outcome")).count().collect()
        counts = Counter({row["outcome"]: row["count"] for row in counted})
        accepted = judged.where("reason IS NULL")
        would = "would be" if run.arguments.dry_run else "are"
        logger.info("%s of %s records %s accepted: %s", counts["accepted"], counts.total(), would, dict(counts))
        run.outcome.rows_in[label], run.outcome.touched = counts.total(), counts["accepted"]
        if run.arguments.dry_run or not counts.total():
            return
        missed = 0
        if counts["accepted"] and label == "bpm":
            missed = produce_again(run, accepted)
            judged = with_conflicts(run, judged, is_taken_in=True)
        for table in owners if counts["accepted"] else ():
            arrived = accepted.select(*run.table(intake.source).columns, F.lit("insert").alias("_change_type"))
            news = Changes(run, feeds={intake.source: arrived})
            merge(run, table, touched_keys(table, news))
        append_outcomes(run, judged)
        if missed:
            raise NotTakenIn(
                f"{missed} records of topic bpm were produced again, and the stream has not accepted them within "
                f"{run.arguments.patience_seconds:.0f} s. Does it run, and by these rules? Then replay them again."
            )


def chosen(run: job.Job, label: str) -> DataFrame:
    """The quarantined records asked for, without those that an earlier replay has made accepted."""
    given = run.arguments
    rows = run.table(QUARANTINE).where(
        ((F.col("source") == KAFKA) & (F.col("topic") == label)) | (F.col("source") == label)
    )
    first_seen = F.to_date("first_seen_at")
    for condition in (
        given.reason and F.col("reason") == given.reason,
        given.partition is not None and F.col("partition") == given.partition,
        given.from_offset is not None and F.col("offset") >= given.from_offset,
        given.to_offset is not None and F.col("offset") <= given.to_offset,
        given.first_day and first_seen >= F.lit(given.first_day),
        given.last_day and first_seen <= F.lit(given.last_day),
    ):
        rows = rows if isinstance(condition, bool) or condition is None else rows.where(condition)
    latest = run.table(OUTCOMES).groupBy(*PLACE).agg(F.max_by("outcome", "decided_at").alias("outcome"))
    accepted = latest.where("outcome = 'accepted'")
    same = [rows[column].eqNullSafe(accepted[column]) for column in PLACE]
    return rows.join(accepted, same, "left_anti").select(*PLACE).distinct()


def judge(run: job.Job, intake: Intake, places: DataFrame) -> DataFrame:
    """The records at these places as bronze has them, with PLACE, and `reason` and `detail` by the present rules."""
    bronze = run.table(intake.source)
    if intake.place == "offset":
        at = Slice.of(places.select("topic", "partition", "offset"))
        found = at.among(bronze, "topic", "partition", "offset").withColumns(
            {"source": F.lit(KAFKA), "row_version": F.lit(None).cast("bigint")}
        )
        return intake.judged(found)
    key = bronze.columns[0]
    at = Slice.of(places.select("row_version", F.col("key").cast("string").cast("bigint").alias(key)))
    found = at.among(bronze.where("NOT is_deleted"), "row_version", key)
    return intake.judged(found).withColumns(
        {
            "source": F.lit(intake.label),
            "topic": F.lit(None).cast("string"),
            "partition": F.lit(None).cast("int"),
            "offset": F.lit(None).cast("bigint"),
            "key": F.col(key).cast("string").cast("binary"),
        }
    )


def with_conflicts(run: job.Job, judged: DataFrame, *, is_taken_in: bool = False) -> DataFrame:
    """Judged readings; refused as conflicting is who says another value than silver or than an earlier one of these.

    `is_taken_in`: by now silver must have what is accepted; what it does not have stays as it was.
    """
    earliest = F.min_by("bpm", F.struct("kafka_timestamp", "partition", "offset")).alias("_first")
    first = judged.where("reason IS NULL").groupBy("device_id", "read_at").agg(earliest)
    held = run.table(HEART_RATE).select("device_id", "read_at", F.col("bpm").alias("_held"))
    known = judged.join(first, ["device_id", "read_at"], "left").join(held, ["device_id", "read_at"], "left")
    if is_taken_in:
        known = known.where("reason IS NOT NULL OR _held IS NOT NULL")
    stands = F.coalesce("_held", "_first")
    conflict = F.col("reason").isNull() & (F.col("bpm") != stands)
    detail = F.format_string("%s bpm, but %s bpm stands", F.col("bpm"), stands)
    return known.withColumns(
        {
            "reason": F.when(conflict, str(Reason.CONFLICTING_READING)).otherwise(F.col("reason")),
            "detail": F.when(conflict, detail).otherwise(F.col("detail")),
            "is_held": F.col("_held").isNotNull(),
        }
    ).drop("_first", "_held")


def produce_again(run: job.Job, accepted: DataFrame) -> int:
    """Produce accepted records that silver does not hold onto their topic; how many it still lacks after a wait."""
    again = Slice.of(accepted.where("NOT is_held").select("device_id", "read_at"))
    if again.is_nothing:
        return 0
    (
        accepted.where("NOT is_held")
        .select("topic", "key", "value")
        .write.format("kafka")
        .options(**kafka.client_options(run))
        .save()
    )
    deadline = time.monotonic() + run.arguments.patience_seconds
    while True:
        missing = again.count() - again.among(run.table(HEART_RATE), "device_id", "read_at").count()
        if missing <= 0 or time.monotonic() > deadline:
            return max(0, missing)
        time.sleep(3)


def append_outcomes(run: job.Job, judged: DataFrame) -> None:
    outcome = F.when(F.col("reason").isNull(), "accepted").otherwise("refused")
    rows = judged.select(
        *PLACE,
        outcome.alias("outcome"),
        "reason",
        "detail",
        F.current_timestamp().alias("decided_at"),
        F.lit(run.run_id).alias("run_id"),
    )
    rows.writeTo(f"{run.catalog}.{OUTCOMES}").append()
    run.outcome.rows_out[OUTCOMES] = run.outcome.rows_in[run.arguments.label]


def arguments() -> argparse.ArgumentParser:
    """An empty text is an argument that is not given."""
    parser = job.parser(NAME)
    parser.add_argument("--label", choices=list(OWNERS), default="workout", help="topic or SQL table of the records")
    parser.add_argument("--reason", type=_reason, default=None, help="only records refused for this reason")
    for name in ("partition", "from-offset", "to-offset"):
        parser.add_argument(f"--{name}", type=lambda text: int(text) if text else None, default=None)
    for name in ("first-day", "last-day"):
        parser.add_argument(
            f"--{name}", type=lambda text: date.fromisoformat(text) if text else None, default=None,
            help="first seen on this UTC day, inclusive",
        )  # fmt: skip
    parser.add_argument("--dry-run", type=_truth, default=True, help="true (default) or false")
    parser.add_argument("--bootstrap-servers", help="Kafka, for topic bpm")
    parser.add_argument("--kafka-option", action="append", default=[], help="name=value for the producer, no secrets")
    parser.add_argument("--topics", help="not used")
    parser.add_argument(
        "--patience-seconds", type=float, default=STREAM_SECONDS, help="how long to wait for the stream"
    )
    return parser


def _reason(text: str) -> str | None:
    return str(Reason(text)) if text else None


def _truth(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from None


def main(argv: list[str]) -> int:
    owned = [table for tables in OWNERS.values() for table in tables]
    tables = {
        QUARANTINE,
        OUTCOMES,
        MULTIPLEX,
        HEART_RATE,
        *(name for table in owned for name in (table.name, *table.sources)),
    }
    return job.run(NAME, argv, replay, sorted(tables), arguments())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
