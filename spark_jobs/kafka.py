"""How a job reaches Kafka: the options of Spark's source and sink, from its arguments and the store of secrets."""

from __future__ import annotations

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
    """As `client_options`; of transactions only what is committed."""
    return client_options(run) | {"kafka.isolation.level": "read_committed"}
