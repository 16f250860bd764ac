"""Transactions that hang, against a broker of the test's own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from include.kafka.transactions import hanging
from local.home import Home
from local.jars import resolve
from local.services import kafka
from local.services.connect import OFFSETS_TOPIC
from local.services.transactions import end_hanging
from tests.waiting import until


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    resolve(print)
    home = Home(Path(tmp_path_factory.mktemp("kafka")), 39500)
    home.temporary.mkdir(parents=True)
    launch = kafka.PART.prepare(home)
    with (home.path / "kafka.log").open("wb") as log:
        process = subprocess.Popen(
            launch.arguments, env=dict(launch.environment), cwd=launch.folder, stdout=log, stderr=log
        )
    try:
        until(lambda: kafka.PART.ready(home, 0) is None, 120)
        admin = AdminClient({"bootstrap.servers": home.kafka_bootstrap})
        topics = [NewTopic(name, 1) for name in (OFFSETS_TOPIC, "workout", "user_profile")]
        for made in admin.create_topics(topics).values():
            made.result(30)
        yield home
    finally:
        process.terminate()
        process.wait(60)


def begin(home: Home, name: str, *topics: str) -> Producer:
    """A producer that leaves a record in each topic and its transaction open."""
    own = {"transactional.id": name, "transaction.timeout.ms": 600_000}
    producer = Producer({"bootstrap.servers": home.kafka_bootstrap, **own})
    producer.init_transactions(60)
    producer.begin_transaction()
    for topic in topics:
        producer.produce(topic, name.encode())
    producer.flush(60)
    return producer


def committed(home: Home, topic: str) -> list[bytes | None]:
    """What a reader of committed records gets of a topic that is read to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": home.kafka_bootstrap,
            "group.id": "test",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    while not (record := consumer.poll(30)).error():
        values.append(record.value())
    consumer.close()
    return values


def test_a_transaction_that_holds_back_connect_is_ended_and_others_are_left_alone(broker: Home) -> None:
    client = {"bootstrap.servers": broker.kafka_bootstrap}
    assert hanging(client, 0) == []
    lost = begin(broker, "connect", "workout", OFFSETS_TOPIC)
    other = begin(broker, "other", "user_profile")
    plain = Producer(client)
    for topic in ("workout", "user_profile"):
        plain.produce(topic, b"plain")
    plain.flush(30)
    time.sleep(1)
    assert {(found.topic, found.offset) for found in hanging(client, 0)} == {
        ("workout", 0),
        (OFFSETS_TOPIC, 0),
        ("user_profile", 0),
    }
    assert hanging(client, 3600) == [] == end_hanging(broker, 3600)
    assert committed(broker, "workout") == []

    assert {found.topic for found in end_hanging(broker, 0)} == {"workout", OFFSETS_TOPIC}
    assert [found.topic for found in hanging(client, 0)] == ["user_profile"]
    assert committed(broker, "workout") == [b"plain"]
    assert end_hanging(broker, 0) == []  # what Connect takes for sent must not be lost
    other.commit_transaction(60)
    assert committed(broker, "user_profile") == [b"other", b"plain"]
    del lost
