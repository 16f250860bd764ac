"""Ends transactions that hang, where that loses nothing (docs/runbooks/hanging_transaction.md)."""

from __future__ import annotations

from include.kafka.transactions import Hanging, hanging
from local.home import Home
from local.services import kafka
from local.services.connect import OFFSETS_TOPIC

LONGEST_SECONDS = 60  # six times as long as the brokers let Connect's be open


def end_hanging(home: Home, longer_than_seconds: float = LONGEST_SECONDS) -> list[Hanging]:
    """Abort each transaction that holds back Connect's own offsets, in every partition where it hangs; which those are.

    Connect then says again what was in it. Others are left alone: to abort one that Connect takes for sent would lose
    it. Raises KafkaException without an answer of the brokers, PartFailed when Kafka's tool fails.
    """
    open_long = hanging({"bootstrap.servers": home.kafka_bootstrap}, longer_than_seconds)
    if not any(found.topic == OFFSETS_TOPIC for found in open_long):
        return []
    producers = {found: _producer(home, found) for found in open_long}
    lost = {producers[found] for found in open_long if found.topic == OFFSETS_TOPIC} - {None}
    ended = [found for found in open_long if producers[found] in lost]
    for found in ended:
        _ask(home, "abort", found, "--start-offset", str(found.offset))
    return ended


def _producer(home: Home, found: Hanging) -> tuple[str, str] | None:
    """Identifier and epoch of the producer whose transaction begins there; None when it has ended meanwhile."""
    for line in _ask(home, "describe-producers", found).splitlines():
        match line.split():
            case [producer, epoch, _, _, _, begin] if begin == str(found.offset):
                return producer, epoch
    return None


def _ask(home: Home, action: str, found: Hanging, *rest: str) -> str:
    """What Kafka's own tool for transactions says."""
    program = ("org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", home.kafka_bootstrap, action)
    place = ("--topic", found.topic, "--partition", str(found.partition))
    return kafka.tool(home, f"see to the transaction in {found}", *program, *place, *rest)
