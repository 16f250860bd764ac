"""How a job reaches Kafka: the options of Spark's source and sink, from its arguments and the store of secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pyspark.sql import DataFrame

from spark_jobs.job import Job

JAAS = "kafka_jaas"  # the secret with `sasl.jaas.config`, for brokers that ask who we are


def client_options(run: Job) -> dict[str, str]:
    """`kafka.*` options from the job's arguments; raises SecretMissing when SASL lacks its secret."""
    given = (option.partition("=") for option in run.arguments.kafka_option)
    options = {f"kafka.{name.removeprefix('kafka.')}": value for name, _, value in given}
    if any(name.startswith("kafka.sasl.") for name in options):
        options["kafka.sasl.jaas.config"] = run.platform.secret(run.spark, JAAS)
    return options | {"kafka.bootstrap.servers": run.arguments.bootstrap_servers}


def reader_options(run: Job) -> dict[str, str]:
    """As `client_options`; of transactions only what is committed.

    After each fetch Spark asks where the partition ends. The client has asked for more records by then, and the broker,
    which answers one request of a connection after the other, keeps that one open until a record comes or this wait is
    over: half a second by default, for each partition in turn. Spark reads only what is there, and need not wait.
    """
    return {"kafka.fetch.max.wait.ms": "10"} | client_options(run) | {"kafka.isolation.level": "read_committed"}


def records(run: Job, topic: str, begin: Mapping[int, int], end: Mapping[int, int] | None = None) -> DataFrame:
    """What a topic has from these offsets on (by partition, inclusive), up to `end` (exclusive) or as far as it goes.

    What retention has dropped is left out without a word.
    """

    def by_partition(offsets: Mapping[int, int]) -> str:
        return json.dumps({topic: {str(number): offset for number, offset in offsets.items()}})

    reader = (
        run.spark.read.format("kafka")
        .options(**reader_options(run))
        .option("assign", json.dumps({topic: sorted(begin)}))
        .option("startingOffsets", by_partition(begin))
        .option("failOnDataLoss", "false")
    )
    return (reader if end is None else reader.option("endingOffsets", by_partition(end))).load()
