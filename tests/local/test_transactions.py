"""Transactions that hang, against a broker of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from include.kafka.transactions import hanging
from local.home import Home
from local.jars import resolve
from local.services import kafka
from local.services.connect import OFFSETS_TOPIC
from local.services.part import alone
from local.services.transactions import end_hanging
from tests.ports import free_port_base
from tests.system.stack import committed
from tests.waiting import until


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    resolve(print)
    home = Home(tmp_path_factory.mktemp("kafka"), free_port_base())
    home.temporary.mkdir(parents=True)
    with alone(kafka.PART, home):
        admin = AdminClient({"bootstrap.servers": home.kafka_bootstrap})
        topics = [NewTopic(name, 1) for name in (OFFSETS_TOPIC, "workout", "user_profile")]
        for made in admin.create_topics(topics).values():
            made.result(30)
        until(lambda: leads(home))
        yield home


def leads(home: Home) -> bool:
    """Whether the broker has taken over all partitions, which it does a moment after it has made them."""
    try:
        hanging({"bootstrap.servers": home.kafka_bootstrap}, 0)
    except KafkaException:
        return False
    return True


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


def values(home: Home, topic: str) -> list[bytes | None]:
    """What a reader of committed records gets."""
    return [record.value() for record in committed(home.kafka_bootstrap, topic)]


def test_a_transaction_that_holds_back_connect_is_ended_and_others_are_left_alone(broker: Home) -> None:
    client = {"bootstrap.servers": broker.kafka_bootstrap}
    assert hanging(client, 0) == []
    lost, other = begin(broker, "connect", "workout", OFFSETS_TOPIC), begin(broker, "other", "user_profile")
    plain = Producer(client)
    for topic in ("workout", "user_profile"):
        plain.produce(topic, b"plain")
    plain.flush(30)
    assert {(found.topic, found.offset) for found in hanging(client, 0)} == {
        ("workout", 0),
        (OFFSETS_TOPIC, 0),
        ("user_profile", 0),
    }
    assert hanging(client, 3600) == [] == end_hanging(broker, 3600)
    assert values(broker, "workout") == []

    assert {found.topic for found in end_hanging(broker, 0)} == {"workout", OFFSETS_TOPIC}
    assert [found.topic for found in hanging(client, 0)] == ["user_profile"]
    assert values(broker, "workout") == [b"plain"]
    assert end_hanging(broker, 0) == []  # what Connect takes for sent must not be lost
    other.commit_transaction(60)
    assert values(broker, "user_profile") == [b"other", b"plain"]
    del lost  # until then its transaction is open
