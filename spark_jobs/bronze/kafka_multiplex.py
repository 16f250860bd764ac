"""`bronze.kafka_multiplex`: one row is one Kafka record, bytes as they came.

Key: topic, partition, offset. This job brings the topics that it is told (all but `bpm`, which the stream brings
itself), as a stream that ends when it has read what was there at its start. Exactly once: the checkpoint says which
offsets a batch has, and Delta refuses a batch that it holds already.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs import job

TARGET = "bronze.kafka_multiplex"
RECORDS_PER_BATCH = 500_000


def records(spark: SparkSession, bootstrap_servers: str, topics: str, options: dict[str, str]) -> DataFrame:
    """Endless records of topics, as rows of the target."""
    reader = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap_servers)
        .option("subscribe", topics)
        .option("startingOffsets", "earliest")
        .option("includeHeaders", "true")
        .option("maxOffsetsPerTrigger", RECORDS_PER_BATCH)
        # A record that Kafka has dropped before it was read is lost: fail and say so, rather than go on in silence.
        .option("failOnDataLoss", "true")
        .option("kafka.isolation.level", "read_committed")
    )
    for name, value in options.items():
        reader = reader.option(f"kafka.{name.removeprefix('kafka.')}", value)
    return reader.load().select(
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


def intake(run: job.Job) -> None:
    """Append what the topics hold and the checkpoint does not."""
    given = run.arguments
    options = dict(option.split("=", 1) for option in given.kafka_option)
    query = (
        records(run.spark, given.bootstrap_servers, given.topics, options)
        .writeStream.format("delta")
        .queryName(TARGET)
        .option("checkpointLocation", run.platform.checkpoint(TARGET))
        .trigger(availableNow=True)
        .toTable(f"{run.catalog}.{TARGET}")
    )
    query.awaitTermination()
    arrived = sum(progress["numInputRows"] or 0 for progress in query.recentProgress)
    run.outcome.rows_in[given.topics] = run.outcome.rows_out[TARGET] = arrived


def main(argv: list[str]) -> int:
    arguments = job.parser(TARGET)
    arguments.add_argument("--bootstrap-servers", required=True, help="the Kafka brokers")
    arguments.add_argument(
        "--kafka-option", action="append", default=[], metavar="K=V", help="client option, no secret"
    )
    arguments.add_argument("--topics", required=True, help="topics, separated by commas")
    return job.run(TARGET, argv, intake, [TARGET], arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
