"""How a job reaches Kafka, with and without brokers that ask who it is."""

import pytest

from spark_jobs import job, kafka
from spark_jobs.platform import Platform, SecretMissing

BROKERS = ["--catalog", "c", "--bootstrap-servers", "one:9092,two:9092"]


def run(*options: str) -> job.Job:
    parser = job.parser("silver.users")
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--kafka-option", action="append", default=[])
    arguments = parser.parse_args([*BROKERS, *(part for option in options for part in ("--kafka-option", option))])
    return job.Job("silver.users", None, Platform(), "c", "1", None, job.Rebuild(), arguments)


def test_without_options_only_the_brokers_are_said():
    assert kafka.client_options(run()) == {"kafka.bootstrap.servers": "one:9092,two:9092"}
    assert kafka.reader_options(run())["kafka.isolation.level"] == "read_committed"


def test_a_broker_without_more_records_does_not_keep_the_reader_waiting_unless_it_is_told_to():
    assert kafka.reader_options(run())["kafka.fetch.max.wait.ms"] == "10"
    assert kafka.reader_options(run("fetch.max.wait.ms=500"))["kafka.fetch.max.wait.ms"] == "500"


def test_brokers_that_ask_are_shown_the_secret(monkeypatch):
    monkeypatch.setenv("FITNESS_KAFKA_JAAS", 'module required username="u" password="p=q";')
    found = kafka.reader_options(run("security.protocol=SASL_SSL", "kafka.sasl.mechanism=PLAIN", "x=a=b"))
    assert found["kafka.security.protocol"] == "SASL_SSL"
    assert found["kafka.sasl.mechanism"] == "PLAIN"
    assert found["kafka.x"] == "a=b"
    assert found["kafka.sasl.jaas.config"] == 'module required username="u" password="p=q";'


def test_a_secret_that_is_missing_is_named(monkeypatch):
    monkeypatch.delenv("FITNESS_KAFKA_JAAS", raising=False)
    with pytest.raises(SecretMissing, match="FITNESS_KAFKA_JAAS"):
        kafka.reader_options(run("sasl.mechanism=PLAIN"))
