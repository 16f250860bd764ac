"""`bronze.kafka_multiplex`: one row is one Kafka record of any topic, bytes as they came.

Key: topic, partition, offset. This job brings the topics that change data capture fills (`workout`, `user_profile`);
the heart-rate stream brings `bpm`. It reads what has been committed since its checkpoint and ends. Exactly once: the
offsets of a batch are fixed in the checkpoint before it is read, and Delta notes the batch with its rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, kafka
from spark_jobs.files import NOTE, plain_path, planned_offsets, replace_file

TARGET = "bronze.kafka_multiplex"
MOST_RECORDS = 500_000  # of a batch, so that what waits after an outage is taken in bounded steps
DATA_LOSS = ("KAFKA_DATA_LOSS", "Some data may have been lost", "data loss", "OffsetOutOfRange")


class RecordsLost(Exception):
    """Kafka has deleted records that were never read: retention is shorter than this job was away."""


class OlderCheckpoint(Exception):
    """The checkpoint has not come as far as this job has: somebody put an older copy back."""


def records(run: job.Job) -> DataFrame:
    """The topics' committed records as rows of the multiplex table."""
    given = run.arguments
    reader = run.spark.readStream.format("kafka").options(**kafka.reader_options(run))
    read = reader.options(
        subscribe=given.topics,
        startingOffsets="earliest",
        includeHeaders="true",
        failOnDataLoss="true",
        maxOffsetsPerTrigger=str(given.most_records),
    ).load()
    return read.select(
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("kafka_timestamp"),
        "key",
        "value",
        "headers",
        F.current_timestamp().alias("ingested_at"),
        F.to_date("timestamp").alias("event_date"),
    )


def take_in(run: job.Job) -> None:
    """Append all records that are there now. Raises RecordsLost when Kafka has deleted some of them unread, and
    OlderCheckpoint before any is read."""
    _check(run)
    started = (
        records(run)
        .writeStream.format("delta")
        .outputMode("append")
        .option("checkpointLocation", run.platform.checkpoint(TARGET))
        .queryName(f"{TARGET} {run.run_id}")
        .trigger(availableNow=True)
        .toTable(f"{run.catalog}.{TARGET}")
    )
    try:
        started.awaitTermination()
    except StreamingQueryException as error:
        if any(sign in str(error) for sign in DATA_LOSS):
            raise RecordsLost(
                f"Records of {run.arguments.topics} were deleted from Kafka before they were read. What is left can be "
                "read by starting with a new checkpoint; what is lost must come from the source again."
            ) from error
        raise
    finally:
        if started.isActive:
            started.stop()
    progress = [json.loads(step.json) for step in started.recentProgress]
    # Spark Connect leaves the sum out of a batch's progress: it is in the progress of its one source.
    arrived = sum(source["numInputRows"] for step in progress for source in step["sources"])
    run.outcome.rows_in["kafka"] = run.outcome.rows_out[TARGET] = arrived
    if progress:
        run.outcome.source_versions |= offsets(progress[-1]["sources"][0]["endOffset"])


def _check(run: job.Job) -> None:
    """Delta would leave out the next batches of an older copy of the checkpoint: their numbers were used."""
    checkpoint = plain_path(run.platform.checkpoint(TARGET))
    note = checkpoint / NOTE
    if not (checkpoint / "metadata").exists():  # runs before this one were on another checkpoint
        replace_file(note, json.dumps({"begun_at": run.clock.isoformat()}))
        return
    last_run = run.last_run()
    begun_at = datetime.fromisoformat(json.loads(note.read_text())["begun_at"]) if note.exists() else None
    if last_run is None or (begun_at and last_run.clock < begun_at):
        return
    planned, read = offsets(planned_offsets(checkpoint)), last_run.source_versions
    if behind := sorted(place for place, end in read.items() if end > planned.get(place, 0)):
        raise OlderCheckpoint(
            f"{checkpoint} is older than the last run, which had read {behind[0]} up to {read[behind[0]]} and not"
            f" {planned.get(behind[0], 0)}. Put the newest one back, or move it away: what Kafka still has is read anew"
            " then, and is in bronze a second time; silver and gold take it once."
        )


def offsets(ends: str | dict[str, dict[str, int]]) -> dict[str, int]:
    """Kafka's end offsets as `topic-partition`: offset. Spark gives them as an object or as its text."""
    parsed = json.loads(ends) if isinstance(ends, str) else ends
    return {
        f"{topic}-{partition}": offset for topic, ends_of in parsed.items() for partition, offset in ends_of.items()
    }


def arguments() -> argparse.ArgumentParser:
    parser = job.parser(TARGET)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topics", required=True, help="separated by commas")
    parser.add_argument("--kafka-option", action="append", default=[], help="name=value for the consumer, no secrets")
    parser.add_argument("--most-records", type=int, default=MOST_RECORDS, help="records of one batch")
    return parser


def main(argv: Sequence[str]) -> int:
    return job.run(TARGET, argv, take_in, [TARGET], arguments())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
