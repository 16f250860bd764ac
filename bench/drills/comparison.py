"""The tables against what was produced, record by record and reading by reading.

The truth is the topic, read here once more, judged by the oracle of the tests (no code of the stream's), and the load's
ledger, which says what Kafka had acknowledged. First to arrive wins: a device's messages share a partition, so the
offset is the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import batched
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from bench.drills.load import HEADER, TOPIC
from local.home import Home
from tests.oracle.facts import Reading
from tests.oracle.messages import judge_reading
from tests.system.stack import committed

BRONZE, SILVER, GOLD, QUARANTINE = "bronze.kafka_multiplex", "silver.heart_rate", "gold.bpm_trends", "ops.quarantine"
TABLES = (BRONZE, SILVER, GOLD, QUARANTINE)
RELATIVE_TOLERANCE = 1e-12

RECORDS = pa.schema(
    {
        "number": pa.int64(),  # by its header; NULL: not of the load
        "partition": pa.int32(),
        "offset": pa.int64(),
        "value": pa.binary(),
        "device_id": pa.int64(),  # this and the next two are NULL when the record is to be refused
        "read_at": pa.int64(),  # microseconds
        "bpm": pa.float64(),
        "reason": pa.string(),  # NULL when it is to be accepted
    }
)


@dataclass
class Difference:
    """Of one table: numbers of the messages concerned, each as often as it is concerned."""

    expected: int = 0  # rows
    found: int = 0
    lost: list[int] = field(default_factory=list)  # readings or records that should be in it and are not
    duplicated: list[int] = field(default_factory=list)  # that are in it more often than once, or should not be at all
    wrong: list[int] = field(default_factory=list)  # that are in it with another content

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.wrong)


@dataclass
class Findings:
    tables: dict[str, Difference]
    records: int = 0
    acknowledged: int = 0
    not_on_topic: list[int] = field(
        default_factory=list
    )  # acknowledged by Kafka, and not there: not the stream's fault
    refused: int = 0
    repeated: int = 0


def topic_records(bootstrap_servers: str) -> pa.Table:
    """All records of the topic, as RECORDS."""
    rows = (
        record(m.headers(), m.partition(), m.offset(), m.timestamp()[1], m.value())
        for m in committed(bootstrap_servers, TOPIC)
    )
    batches = (pa.Table.from_pylist(list(some), RECORDS) for some in batched(rows, 10_000))
    return pa.concat_tables([RECORDS.empty_table(), *batches])


def record(
    headers: Any, partition: int | None, offset: int | None, arrived_ms: int, value: bytes | None
) -> dict[str, Any]:
    """One record with the oracle's judgement; a row of RECORDS."""
    number = dict(headers or ()).get(HEADER)
    judged = judge_reading(value, arrived_ms * 1000)
    said = judged._asdict() if isinstance(judged, Reading) else {"reason": judged.reason}
    place = {"partition": partition, "offset": offset, "value": value}
    return {"number": None if number is None else int(number), **place, **said}


def delta_tables(home: Home) -> dict[str, pa.Table]:
    """What the tables hold of the topic."""

    def rows(name: str, columns: list[str], partitions: list[tuple[str, str, Any]] | None = None) -> pa.Table:
        table = DeltaTable(str(home.lake.joinpath(*name.split("."))))
        return table.to_pyarrow_table(columns=columns, partitions=partitions)

    return {
        BRONZE: rows(BRONZE, ["partition", "offset", "value"], [("topic", "=", TOPIC)]),
        SILVER: rows(SILVER, ["device_id", "read_at", "bpm"]),
        GOLD: rows(GOLD, ["device_id", "minute", "min_bpm", "avg_bpm", "max_bpm", "readings"]),
        QUARANTINE: rows(QUARANTINE, ["topic", "partition", "offset", "value", "reason"]),
    }


def compare(topic: pa.Table, ledger: pa.Table, found: Mapping[str, pa.Table]) -> Findings:
    """`topic`: RECORDS; `ledger`: of the load; `found`: rows of the four tables."""
    with duckdb.connect() as db:
        for name, rows in {
            "topic": topic,
            "ledger": ledger,
            **{_plain(name): rows for name, rows in found.items()},
        }.items():
            db.register(name, _with_plain_times(rows))
        db.execute(TRUTH)

        def numbers(query: str) -> list[int]:
            """Of a query with a message's number and how often it is concerned."""
            return [number for number, count in db.execute(query).fetchall() for _ in range(count)]

        def count(query: str) -> int:
            answer = db.execute(query).fetchone()
            assert answer is not None
            return int(answer[0])

        findings = Findings(
            {
                name: Difference(
                    expected=count(f"SELECT count(*) FROM expected_{_plain(name)}"),
                    found=count(f"SELECT count(*) FROM {_held(name)}"),
                    lost=numbers(queries["lost"]),
                    duplicated=numbers(queries["duplicated"]),
                    wrong=numbers(queries["wrong"]),
                )
                for name, queries in QUERIES.items()
            },
            records=topic.num_rows,
            acknowledged=ledger.num_rows,
            not_on_topic=numbers("SELECT number, 1 FROM ledger ANTI JOIN topic USING (number)"),
            refused=count(f"SELECT count(*) FROM expected_{_plain(QUARANTINE)}"),
            repeated=count("SELECT count(*) FROM judged WHERE place > 1 AND bpm = standing_bpm"),
        )
    # What Kafka acknowledged and no longer has is lost, whoever lost it.
    findings.tables[BRONZE].lost += findings.not_on_topic
    return findings


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _with_plain_times(rows: pa.Table) -> pa.Table:
    """Times as microseconds: DuckDB needs an extension for zones, even for UTC."""
    for place, column in enumerate(rows.schema):
        if pa.types.is_timestamp(column.type):
            micros = rows.column(place).cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
            rows = rows.set_column(place, column.name, micros)
    return rows


def _held(name: str) -> str:
    return f"{_plain(name)} WHERE topic = '{TOPIC}'" if name == QUARANTINE else _plain(name)


TRUTH = f"""
CREATE TABLE judged AS
SELECT *, row_number() OVER same_reading AS place, first_value(bpm) OVER same_reading AS standing_bpm
FROM topic WHERE reason IS NULL
WINDOW same_reading AS (PARTITION BY device_id, read_at ORDER BY "partition", "offset");

CREATE TABLE expected_bronze_kafka_multiplex AS
SELECT coalesce(number, -1) AS number, "partition", "offset", value FROM topic;

CREATE TABLE expected_silver_heart_rate AS
SELECT coalesce(number, -1) AS number, device_id, read_at, bpm FROM judged WHERE place = 1;

-- Values have few decimals: summed as such, the mean is exact.
CREATE TABLE expected_gold_bpm_trends AS
SELECT max(number) AS number, device_id, read_at // 60000000 * 60000000 AS minute, min(bpm) AS min_bpm,
  sum(bpm::DECIMAL(18, 6))::DOUBLE / count(*) AS avg_bpm, max(bpm) AS max_bpm, count(*) AS readings
FROM expected_silver_heart_rate GROUP BY ALL;

CREATE TABLE expected_ops_quarantine AS
SELECT coalesce(number, -1) AS number, "partition", "offset", value, reason FROM topic WHERE reason IS NOT NULL
UNION ALL
SELECT coalesce(number, -1), "partition", "offset", value, 'conflicting_reading' FROM judged WHERE bpm <> standing_bpm;

CREATE VIEW held_minutes AS
SELECT device_id, minute, sum(readings) AS readings FROM gold_bpm_trends GROUP BY ALL;
CREATE VIEW held_quarantine AS SELECT * FROM ops_quarantine WHERE topic = '{TOPIC}';
"""


def _queries(held: str, expected: str, key: str, differs: str) -> dict[str, str]:
    """`differs`: whether a row `e` that is expected and one `h` that is held say different things.

    A row that nobody expects counts as duplicated, with number -1.
    """
    return {
        "lost": f"SELECT number, 1 FROM {expected} ANTI JOIN {held} USING ({key})",
        "duplicated": f"""
            SELECT coalesce(e.number, -1), h.times - (e.number IS NOT NULL)::INT
            FROM (SELECT {key}, count(*) AS times FROM {held} GROUP BY ALL) AS h LEFT JOIN {expected} AS e USING ({key})
            WHERE h.times > 1 OR e.number IS NULL""",
        "wrong": f"""
            SELECT e.number, 1 FROM {expected} AS e
            WHERE EXISTS (FROM {held} AS h WHERE {_same(key)} AND ({differs}))""",
    }


def _same(key: str) -> str:
    return " AND ".join(f"e.{column.strip()} = h.{column.strip()}" for column in key.split(","))


_PLACE = '"partition", "offset"'
_TREND = "device_id, minute"
QUERIES = {
    BRONZE: _queries(
        "bronze_kafka_multiplex",
        "expected_bronze_kafka_multiplex",
        _PLACE,
        "e.value IS DISTINCT FROM h.value",
    ),
    SILVER: _queries("silver_heart_rate", "expected_silver_heart_rate", "device_id, read_at", "e.bpm <> h.bpm"),
    # A reading too few or too many in a minute is a reading lost or counted twice, not a wrong minute.
    GOLD: {
        "lost": f"""
            SELECT e.number, (e.readings - coalesce(h.readings, 0))::BIGINT FROM expected_gold_bpm_trends AS e
            LEFT JOIN held_minutes AS h USING ({_TREND}) WHERE e.readings > coalesce(h.readings, 0)""",
        "duplicated": f"""
            SELECT coalesce(e.number, -1), (h.readings - coalesce(e.readings, 0))::BIGINT
            FROM held_minutes AS h LEFT JOIN expected_gold_bpm_trends AS e USING ({_TREND})
            WHERE h.readings > coalesce(e.readings, 0)""",
        "wrong": f"""
            SELECT e.number, 1 FROM expected_gold_bpm_trends AS e JOIN gold_bpm_trends AS h USING ({_TREND})
            WHERE e.readings = h.readings AND (e.min_bpm <> h.min_bpm OR e.max_bpm <> h.max_bpm
              OR abs(e.avg_bpm - h.avg_bpm) > {RELATIVE_TOLERANCE} * e.avg_bpm)""",
    },
    QUARANTINE: _queries(
        "held_quarantine",
        "expected_ops_quarantine",
        _PLACE,
        "e.value IS DISTINCT FROM h.value OR e.reason <> h.reason",
    ),
}


def by_drill(messages: Iterable[int], ledger: pa.Table, broken_at: list[float]) -> list[int]:
    """How many of the messages were produced between one drill's fault and the next one's.

    Messages before the first fault and records that are not of the load count for the first drill.
    """
    numbers = list(messages)
    concerned = ledger.filter(pc.field("number").isin(set(numbers)))
    produced = dict(zip(concerned["number"].to_pylist(), concerned["produced_at"].to_pylist(), strict=True))
    counts = [0] * len(broken_at)
    for number in numbers:
        at = produced.get(number, 0) / 1e6
        counts[max(int(np.searchsorted(broken_at, at, side="right")) - 1, 0)] += 1
    return counts
