"""Ends transactions that hang, where that loses nothing (docs/runbooks/hanging_transaction.md)."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from include.kafka.transactions import Hanging, hanging
from local.home import Home
from local.jars import jar_folder
from local.services.connect import OFFSETS_TOPIC
from local.services.java import common_flags, java
from local.services.part import PartFailed, base_environment

LONGEST_SECONDS = 60  # six times as long as the brokers let Connect's be open
TOOL = "org.apache.kafka.tools.TransactionsCommand"
TOOL_SECONDS = 60


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
        _tool(home, "abort", *_place(found), "--start-offset", str(found.offset))
    return ended


def _producer(home: Home, found: Hanging) -> tuple[str, str] | None:
    """Identifier and epoch of the producer whose transaction begins there; None when it has ended meanwhile."""
    for line in _tool(home, "describe-producers", *_place(found)).splitlines():
        match line.split():
            case [producer, epoch, *_, begin] if begin == str(found.offset):
                return producer, epoch
    return None


def _place(found: Hanging) -> Sequence[str]:
    return "--topic", found.topic, "--partition", str(found.partition)


def _tool(home: Home, *arguments: str) -> str:
    flags = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *common_flags(home)]
    command = [java(), *flags, "-cp", f"{jar_folder('kafka')}/*", TOOL, "--bootstrap-server", home.kafka_bootstrap]
    run = subprocess.run(
        [*command, *arguments], env=base_environment(home), capture_output=True, text=True, timeout=TOOL_SECONDS
    )
    if run.returncode != 0:
        raise PartFailed(f"Kafka's {arguments[0]} failed: {(run.stderr or run.stdout).strip()[-600:]}")
    return run.stdout
