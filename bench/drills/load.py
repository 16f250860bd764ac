"""The load of a drill as a process of its own: paced messages onto the topic, and a ledger of what Kafka has taken.

    python -m bench.drills.load LEDGER --bootstrap-servers HOST:PORT --seed 1 --rate 1000

Runs until its standard input closes, then waits for what is still on its way. The ledger is an Arrow stream; each
message carries its number in a header, so that the tables can be compared with it message by message.
"""

from __future__ import annotations

import argparse
import functools
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bench.drills.messages import MICROS, Sequence

TOPIC = "bpm"
HEADER = "number"
QUEUE_LIMIT = 2_000_000  # half an hour without a broker
TICK_SECONDS = 0.05
WRITE_SECONDS = 2.0
LAST_WORDS_SECONDS = 120.0  # for what is on its way when the load is to end
LEDGER = pa.schema(
    {
        "number": pa.int64(),
        "produced_at": pa.int64(),  # epoch microseconds
        "acknowledged_at": pa.int64(),
        "partition": pa.int32(),
        "offset": pa.int64(),  # -1: Kafka had it already when it was sent again, and does not say where
        "value": pa.binary(),
    }
)


class Load:
    """Sends the sequence at its pace and never skips a message: what a broken producer had under way is sent again."""

    def __init__(self, sequence: Sequence, bootstrap_servers: str, ledger: pa.RecordBatchStreamWriter) -> None:
        self.sequence, self.bootstrap_servers, self.ledger = sequence, bootstrap_servers, ledger
        self.under_way: dict[int, int] = {}  # number -> when it was produced
        self.acknowledged: list[tuple[Any, ...]] = []
        self.errors = self.sent = self.sent_again = 0
        self.broken = ""
        self._producer = self._new_producer()

    def run(self, stop: threading.Event) -> int:
        """Returns how many messages Kafka has not taken at the end."""
        written = time.monotonic()
        while not stop.is_set():
            due = int((time.time() * MICROS - self.sequence.begun_at) * self.sequence.rate / MICROS)
            while self.sent < due and self._send(self.sent):
                self.sent += 1
            self._producer.poll(TICK_SECONDS)
            self._mend()
            if time.monotonic() - written > WRITE_SECONDS:
                self._write()
                written = time.monotonic()
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while self.under_way and time.monotonic() < deadline:
            self._producer.flush(1)
            self._mend()
        self._write()
        return len(self.under_way)

    def _new_producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "client.id": "drills",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",  # where Java clients would put the same key
                "compression.type": "lz4",
                "linger.ms": 20,
                "message.timeout.ms": 0,  # nothing is given up, however long the broker is away
                "reconnect.backoff.max.ms": 1000,
                "queue.buffering.max.messages": QUEUE_LIMIT,
                "error_cb": self._on_error,
                "log_level": 0,
            }
        )

    def _send(self, number: int) -> bool:
        """Whether the producer had room."""
        message = self.sequence[number]
        try:
            self._producer.produce(
                TOPIC,
                key=message.key,
                value=message.value,
                headers=[(HEADER, b"%d" % number)],
                on_delivery=functools.partial(self._on_delivery, number),
            )
        except BufferError:
            return False
        except KafkaException as error:
            self.broken = str(error)
            return False
        self.under_way.setdefault(number, round(time.time() * MICROS))
        return True

    def _on_delivery(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.errors += 1
            self.broken = str(error)
            return
        if (produced_at := self.under_way.pop(number, None)) is not None:
            place = (message.partition(), message.offset() if message.offset() is not None else -1)
            self.acknowledged.append((number, produced_at, round(time.time() * MICROS), *place, message.value()))

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.broken = str(error)

    def _mend(self) -> None:
        """A new producer for one that lost its sequence; its messages, in order, are sent by the new one."""
        if not self.broken:
            return
        print(f"the producer is replaced: {self.broken}", file=sys.stderr, flush=True)
        self._producer.purge()
        self._producer.flush(1)
        self._producer, self.broken = self._new_producer(), ""
        for number in sorted(self.under_way):
            self.sent_again += self._send(number)

    def _write(self) -> None:
        rows, self.acknowledged = self.acknowledged, []
        if rows:
            columns = [
                pa.array(column, type_.type) for column, type_ in zip(zip(*rows, strict=True), LEDGER, strict=True)
            ]
            self.ledger.write_batch(pa.record_batch(columns, schema=LEDGER))


def read_ledger(file: Path) -> pa.Table:
    """All that was acknowledged; of a load that was killed, all that it had written."""
    batches = []
    with pa.ipc.open_stream(file) as reader:
        try:
            for batch in reader:
                batches.append(batch)
        except (pa.ArrowInvalid, OSError):
            pass  # a batch that was cut off
    return pa.Table.from_batches(batches, LEDGER)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True)
    given = parser.parse_args()
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    sequence = Sequence(given.seed, given.rate, round(time.time() * MICROS))
    with pa.OSFile(str(given.ledger), "wb") as file, pa.ipc.new_stream(file, LEDGER) as ledger:
        load = Load(sequence, given.bootstrap_servers, ledger)
        left = load.run(stop)
    print(
        f"{load.sent} sent, {left} not acknowledged, {load.errors} delivery errors, {load.sent_again} sent again",
        file=sys.stderr,
    )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
