"""Tells the sources: rows into the company's database, readings and rubbish onto Kafka. Waits for whoever is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby, islice
from types import TracebackType
from typing import Any, LiteralString

import numpy as np
import psycopg
from confluent_kafka import KafkaError, KafkaException, Producer

from local.home import Home
from local.simulator.facts import (
    Deregistration,
    Message,
    Profile,
    ProfileDeletion,
    ProfileMove,
    Readings,
    Registration,
    RowFact,
    Visit,
    VisitDeletion,
    Workout,
    instant,
    microseconds,
)
from local.simulator.ledger import Batch, Delivery, columns

READING_TOPIC = "bpm"
MESSAGES_AT_ONCE = 10_000
QUEUE_LIMIT = 400_000
PATIENCE_SECONDS = (0.5, 1, 2, 4, 8)  # between tries; the last one for ever

# Exactly these numbers of transactions have arrived: what was in doubt when a simulator was killed is looked up here.
DELIVERED = """
CREATE SCHEMA IF NOT EXISTS simulator;
CREATE TABLE IF NOT EXISTS simulator.delivered (run_id text, batch bigint, PRIMARY KEY (run_id, batch));
"""


class Stopped(Exception):
    """Somebody asked the simulator to stop while it was waiting."""


class Sources:
    """The database and Kafka of one stack.

    `say` gets a sentence when somebody is away and when they are back. `stop` ends any waiting with `Stopped`; what was
    not delivered by then is in doubt. Use as a context manager.
    """

    def __init__(self, home: Home, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._home, self._stop, self._say = home, stop, say
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._producer: Producer | None = None
        self._failed_deliveries = 0
        self._fatal: str | None = None

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1)

    def deliver(self, run_id: str, number: int, batch: Batch) -> Delivery:
        """Returns when all of the batch has arrived; a second time it changes nothing. Raises `Stopped`."""
        begun_at = microseconds(datetime.now(UTC))
        if batch.rows:
            self._patiently("PostgreSQL", lambda: self._write_rows(run_id, number, batch.rows))
        ended_at = microseconds(datetime.now(UTC))
        if batch.readings or batch.messages:
            self.produce(lambda: [*reading_messages(batch.readings), *batch.messages])
        return Delivery(number, begun_at, ended_at)

    def newest_registration(self, first_user: int, last_user: int) -> int | None:
        """The highest row version of the registrations of these members."""

        def ask() -> int | None:
            query = "SELECT max(row_version) FROM app.registered_users WHERE user_id BETWEEN %s AND %s"
            with self._database() as connection:
                row = connection.execute(query, (first_user, last_user)).fetchone()
            return row[0] if row else None

        return self._patiently("PostgreSQL", ask)

    # Rows

    def _write_rows(self, run_id: str, number: int, rows: Sequence[RowFact]) -> None:
        with self._database() as connection, connection.cursor() as cursor:
            mark = "INSERT INTO simulator.delivered VALUES (%s, %s) ON CONFLICT DO NOTHING"
            if cursor.execute(mark, (run_id, number)).rowcount == 0:
                return
            for statement, parameters in statements(rows):
                cursor.executemany(statement, parameters)

    @contextmanager
    def _database(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A transaction."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                host="127.0.0.1",
                port=self._home.port("postgres"),
                dbname="fitness",
                user="fitness",
                password=self._home.secrets["postgres_password"],
                connect_timeout=5,
                autocommit=True,
            )
            self._connection.execute(DELIVERED)
        with self._connection.transaction():
            yield self._connection

    def _patiently[T](self, who: str, act: Callable[[], T]) -> T:
        """Tries until the database is there; what it refuses for another reason is raised."""
        for attempt in range(1_000_000_000):
            try:
                result = act()
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if self._connection is not None:
                    self._connection.close()
                if attempt == 0:
                    self._say(f"{who} is away, waiting for it: {str(error).strip().splitlines()[-1]}")
                if self._stop.wait(PATIENCE_SECONDS[min(attempt, len(PATIENCE_SECONDS) - 1)]):
                    raise Stopped from error
            else:
                if attempt:
                    self._say(f"{who} is back")
                return result
        raise AssertionError("unreachable")

    # Messages

    def produce(self, messages: Callable[[], Iterable[Message]]) -> int:
        """Sends all messages, in order, and returns their number when Kafka has them.

        When the producer loses its sequence (a broker that forgot it), everything is sent again by a new one.
        """
        while True:
            producer = self._kafka()
            count = 0
            try:
                for topic, group in groupby(messages(), key=lambda message: message.topic):
                    while chunk := list(islice(group, MESSAGES_AT_ONCE)):
                        self._make_room(producer)
                        count += self._enqueue(producer, topic, chunk)
                self._wait_until_sent(producer)
            except KafkaException as error:
                self._fatal = str(error)
            if self._fatal is None and not self._failed_deliveries:
                return count
            self._say(
                f"Kafka took {self._failed_deliveries} messages less than were sent ({self._fatal}), sending again"
            )
            producer.purge()
            self._producer = None
            if self._stop.wait(1):
                raise Stopped

    def _kafka(self) -> Producer:
        if self._producer is None:
            self._failed_deliveries, self._fatal = 0, None
            self._producer = Producer(
                {
                    "bootstrap.servers": self._home.kafka_bootstrap,
                    "client.id": "simulator",
                    "enable.idempotence": True,
                    "partitioner": "murmur2_random",  # where Java clients would put the same key
                    "compression.type": "lz4",
                    "linger.ms": 20,
                    "batch.size": 262_144,
                    "message.timeout.ms": 0,  # an outage may last: nothing is given up
                    "queue.buffering.max.messages": QUEUE_LIMIT + MESSAGES_AT_ONCE,
                    "delivery.report.only.error": True,
                    "on_delivery": self._delivered,
                    "error_cb": self._erred,
                    "log_level": 0,
                }
            )
        return self._producer

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed_deliveries += 1
            self._fatal = str(error)

    def _erred(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = str(error)

    def _enqueue(self, producer: Producer, topic: str, chunk: list[Message]) -> int:
        """The queue has room for the chunk, so that nothing can be left out in its middle and overtaken."""
        payload: list[dict[str, Any]] = [{"key": message.key, "value": message.value} for message in chunk]
        queued = producer.produce_batch(topic, payload)
        if queued != len(chunk):
            errors = {str(entry["_error"]) for entry in payload if "_error" in entry}
            raise KafkaException(KafkaError(KafkaError._FAIL, f"{len(chunk) - queued} not queued: {errors}"))
        return queued

    def _make_room(self, producer: Producer) -> None:
        producer.poll(0)
        self._wait_for(producer, lambda: len(producer) <= QUEUE_LIMIT)

    def _wait_until_sent(self, producer: Producer) -> None:
        self._wait_for(producer, lambda: producer.flush(0.2) == 0)

    def _wait_for(self, producer: Producer, is_done: Callable[[], bool]) -> None:
        began, is_said = time.monotonic(), False
        while not is_done() and self._fatal is None:
            producer.poll(0.05)
            if self._stop.is_set():
                raise Stopped
            if time.monotonic() - began > 5 and not is_said:
                self._say("Kafka is away or slow, waiting for it")
                is_said = True
        if is_said and self._fatal is None:
            self._say("Kafka is back")


def statements(rows: Iterable[RowFact]) -> Iterator[tuple[LiteralString, list[tuple[Any, ...]]]]:
    """SQL and its parameters for rows in their order; rows of a kind that follow each other go together.

    Tables do not depend on each other, so order counts within a table only.
    """
    tables = [
        [row for row in rows if isinstance(row, kinds)]
        for rows in [list(rows)]
        for kinds in (
            (Registration, Deregistration),
            (Visit, VisitDeletion),
            (Profile, ProfileMove, ProfileDeletion),
            (Workout,),
        )
    ]
    for table in tables:
        for kind, group in groupby(table, key=type):
            yield SQL[kind], [_parameters(row) for row in group]


SQL: dict[type, LiteralString] = {
    Registration: """
        INSERT INTO app.registered_users (user_id, device_id, mac_address, registered_at) VALUES (%s, %s, %s, %s)
        ON CONFLICT (user_id) DO UPDATE SET
          device_id = excluded.device_id, mac_address = excluded.mac_address, registered_at = excluded.registered_at""",
    Deregistration: "DELETE FROM app.registered_users WHERE user_id = %s",
    Visit: """
        INSERT INTO app.gym_visits (visit_id, mac_address, gym_id, login_at, logout_at) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (visit_id) DO UPDATE SET
          mac_address = excluded.mac_address, gym_id = excluded.gym_id, login_at = excluded.login_at,
          logout_at = excluded.logout_at""",
    VisitDeletion: "DELETE FROM app.gym_visits WHERE visit_id = %s",
    Profile: """
        INSERT INTO app.user_profile (user_id, date_of_birth, sex, gender, first_name, last_name, street_address, city,
          state, zip, changed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (user_id) DO UPDATE SET
          date_of_birth = excluded.date_of_birth, sex = excluded.sex, gender = excluded.gender,
          first_name = excluded.first_name, last_name = excluded.last_name,
          street_address = excluded.street_address, city = excluded.city, state = excluded.state, zip = excluded.zip,
          changed_at = excluded.changed_at""",
    ProfileMove: "UPDATE app.user_profile SET user_id = %s, changed_at = %s WHERE user_id = %s",
    ProfileDeletion: "DELETE FROM app.user_profile WHERE user_id = %s",
    Workout: """
        INSERT INTO app.workout_events (user_id, workout_id, session_id, action, occurred_at)
        VALUES (%s, %s, %s, %s, %s)""",
}


def _parameters(row: RowFact) -> tuple[Any, ...]:
    match row:
        case Registration(user, device, mac, registered_at):
            return user, device, mac, instant(registered_at)
        case Visit(visit, mac, gym, login_at, logout_at):
            return visit, mac, gym, instant(login_at), None if logout_at is None else instant(logout_at)
        case Profile():
            names = [name for name in Profile.__slots__ if name != "changed_at"]
            return (*(getattr(row, name) for name in names), instant(row.changed_at))
        case ProfileMove(user, new_user, changed_at):
            return new_user, instant(changed_at), user
        case Workout(user, workout, session, action, occurred_at):
            return user, workout, session, action, instant(occurred_at)
        case Deregistration(user) | ProfileDeletion(user):
            return (user,)
        case VisitDeletion(visit):
            return (visit,)


def reading_messages(readings: Sequence[Readings]) -> Iterator[Message]:
    """Readings as the contract's messages, key = device, in their order."""
    if readings:
        yield from encode(*columns(readings))


def encode(device_id: np.ndarray, read_at: np.ndarray, bpm: np.ndarray) -> Iterator[Message]:
    """`read_at` in microseconds. Formatting by hand costs a third of `json.dumps`."""
    for begin in range(0, device_id.size, MESSAGES_AT_ONCE):
        part = slice(begin, begin + MESSAGES_AT_ONCE)
        seconds, fraction = np.divmod(read_at[part], 1_000_000)
        devices, beats = device_id[part].tolist(), bpm[part].tolist()
        for device, second, micro, beat in zip(devices, seconds.tolist(), fraction.tolist(), beats, strict=True):
            if micro:
                value = b'{"device_id":%d,"time":%d.%06d,"heartrate":%a}' % (device, second, micro, beat)
            else:
                value = b'{"device_id":%d,"time":%d,"heartrate":%a}' % (device, second, beat)
            yield Message(READING_TOPIC, b"%d" % device, value)
