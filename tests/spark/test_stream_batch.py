"""The stream's batch against plain Python: any order, repetition, batching and dying give the oracle's tables."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.messages import parse_readings
from spark_jobs.streaming import batch as batch_writes
from spark_jobs.streaming import bpm, readings
from spark_jobs.streaming.batch import Batch, Paused, Seen
from spark_jobs.streaming.bpm import newest_batch, newest_held
from spark_jobs.streaming.limits import RefusalLimit
from tests.oracle.facts import Reading, Refusal, instant
from tests.oracle.gold import Statistics, bpm_trends
from tests.oracle.messages import judge_reading
from tests.oracle.silver import heart_rate
from tests.spark.pipeline import Pipeline
from tests.spark.test_messages import READINGS

ARRIVED = datetime(2024, 3, 2, 12, tzinfo=UTC)
SCHEMA = """topic STRING, partition INT, offset BIGINT, kafka_timestamp TIMESTAMP, key BINARY, value BINARY,
    headers ARRAY<STRUCT<key: STRING, value: BINARY>>"""
WRITES = ("_multiplex", "_heart_rate", "_trends", "_quarantine")

Record = tuple[str, int, int, datetime, bytes | None, bytes | None, list[Any]]


def message(device_id: int, second: float, bpm: float) -> bytes:
    return f'{{"device_id":{device_id},"time":{second},"heartrate":{bpm}}}'.encode()


def day_of_messages(seed: int) -> list[bytes]:
    """Two devices in two minutes years apart: readings, repeats, other values for the same instant, and rubbish."""
    chance = random.Random(seed)
    said = []
    for _ in range(120):
        second = chance.choice((1_200_000_000, 1_577_836_800)) + chance.randrange(0, 70) + chance.choice((0, 0.25))
        said.append(message(chance.choice((7, 119715)), second, chance.choice((61, 66.62, 80.123456789012))))
    said += [b"", b'{"device_id":"7"}', message(7, 1_200_000_000, 300), message(7, 900_000_000, 70)]
    chance.shuffle(said)
    return said


def records(messages: list[bytes | None]) -> list[Record]:
    """In order of arrival, over two partitions."""
    at = [ARRIVED + timedelta(milliseconds=number) for number in range(len(messages))]
    return [("bpm", n % 2, n // 2, at[n], b"k", value, []) for n, value in enumerate(messages)]


def newest_of(rows: list[Record]) -> dict[int, int]:
    return {partition: max(row[2] for row in rows if row[1] == partition) for _, partition, *_ in rows}


@pytest.fixture
def write(spark: SparkSession, pipeline: Pipeline) -> Iterator[Callable[..., Any]]:
    """Write records as batch `number`."""

    def write(rows: list[Record], number: int, batch: Batch | None = None) -> Any:
        parsed = readings.parsed(spark.createDataFrame(rows, SCHEMA)).localCheckpoint()
        return (batch or Batch("spark_catalog", transaction="checkpoint")).write(parsed, number)

    yield write
    for setting in ("txnAppId", "txnVersion"):
        spark.conf.unset(f"spark.databricks.delta.write.{setting}")


def expected(rows: list[Record]) -> dict[str, Any]:
    judged = [(row, judge_reading(row[5], round(row[3].timestamp() * 1e6))) for row in rows]
    accepted = [(row, said) for row, said in judged if isinstance(said, Reading)]
    silver = heart_rate(said for _, said in accepted)
    conflicts = len(silver.refused)
    return {
        "bronze": sorted((row[1], row[2], row[5]) for row in rows),
        "silver": sorted((d, instant(at), bpm) for d, values in silver.accepted.items() for at, bpm in values.items()),
        "gold": sorted((t.device_id, instant(t.minute), *_close(t.bpm)) for t in bpm_trends(silver.accepted)),
        "quarantined": sum(isinstance(said, Refusal) for _, said in judged) + conflicts,
        "conflicts": conflicts,
    }


def _close(bpm: Statistics) -> tuple[Any, ...]:
    """The oracle's mean is the exact quotient; a sum that became a double first may differ in the last digit."""
    return bpm.lowest, pytest.approx(bpm.average, rel=1e-12), bpm.highest, bpm.readings


def found(lake: Pipeline) -> dict[str, Any]:
    quarantine = lake.rows("ops.quarantine")
    places = {(row["partition"], row["offset"]) for row in quarantine}
    assert len(places) == len(quarantine), "a record is in quarantine twice"
    columns = ("device_id", "minute", "min_bpm", "avg_bpm", "max_bpm", "readings")
    return {
        "bronze": sorted((r["partition"], r["offset"], r["value"]) for r in lake.rows("bronze.kafka_multiplex")),
        "silver": sorted((r["device_id"], r["read_at"], r["bpm"]) for r in lake.rows("silver.heart_rate")),
        "gold": sorted(tuple(r[column] for column in columns) for r in lake.rows("gold.bpm_trends")),
        "quarantined": len(quarantine),
        "conflicts": sum(row["reason"] == "conflicting_reading" for row in quarantine),
    }


def test_whatever_the_batches_the_tables_are_the_oracles(write: Callable[..., Any], pipeline: Pipeline) -> None:
    rows = records(day_of_messages(seed=1))
    batches = [rows[:40], rows[40:41], rows[41:]]
    for number, batch in enumerate(batches):
        random.Random(number).shuffle(batch)
        write(batch, number)
    assert found(pipeline) == expected(rows)


def test_a_batch_that_died_at_any_write_is_completed_by_running_it_again(
    write: Callable[..., Any], pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = records(day_of_messages(seed=2))
    quarter = len(rows) // len(WRITES)
    for number, dies_at in enumerate(WRITES):
        batch = rows[number * quarter : (number + 1) * quarter if number < len(WRITES) - 1 else None]
        with monkeypatch.context() as patch:
            patch.setattr(Batch, dies_at, _dies)
            with pytest.raises(ConnectionAbortedError):
                write(batch, number)
        write(batch, number)
    assert found(pipeline) == expected(rows)


def _dies(*_: Any) -> None:
    raise ConnectionAbortedError


def test_a_batch_that_is_run_again_writes_nothing(write: Callable[..., Any], pipeline: Pipeline) -> None:
    rows = records(day_of_messages(seed=3))
    write(rows, 0)
    before = found(pipeline), pipeline.versions()
    report = write(rows, 0)
    assert report.rows["accepted"] == 0
    assert (found(pipeline), pipeline.versions()) == before


def test_a_new_checkpoint_reads_everything_again_and_adds_nothing(
    write: Callable[..., Any], pipeline: Pipeline
) -> None:
    rows = records(day_of_messages(seed=4))
    write(rows[:60], 0)
    anew = Batch("spark_catalog", transaction="another", held_to=newest_of(rows[:60]))
    write(rows, 0, anew)
    assert found(pipeline) == expected(rows)


def test_only_what_the_tables_may_hold_is_looked_for(
    spark: SparkSession, write: Callable[..., Any], pipeline: Pipeline
) -> None:
    """Of a partition that lags behind another one, whose offsets say nothing of its own."""
    rows = records(day_of_messages(seed=4))
    batch = Batch("spark_catalog", transaction="another", held_to={0: 10, 1: 60})
    parsed = spark.createDataFrame([row for row in rows if row[2] in (11, 30)], SCHEMA)
    doubtful = batch._may_be_held(parsed, cast(Any, SimpleNamespace(records=4, first_offset=11)))
    assert doubtful is not None
    assert sorted(tuple(row) for row in parsed.where(doubtful).select("partition", "offset").collect()) == [
        (1, 11),
        (1, 30),
    ]
    beyond = cast(Any, SimpleNamespace(records=2, first_offset=61))
    assert batch._may_be_held(parsed, beyond) is None
    write(rows, 0)
    write(rows, 0, Batch("spark_catalog", transaction="another", held_to=newest_of(rows)))
    assert found(pipeline) == expected(rows)


def test_of_a_topic_that_was_made_anew_all_records_are_kept(write: Callable[..., Any], pipeline: Pipeline) -> None:
    """They have places and even keys of records that the tables hold; when they came and what they say is their own."""
    before, after = records(day_of_messages(seed=4)), records(day_of_messages(seed=5))
    after = [(*row[:3], row[3] + timedelta(days=1), *row[4:]) for row in after]
    write(before, 0)
    write(after, 0, Batch("spark_catalog", transaction="another", held_to=newest_of(before)))
    write(after, 0, Batch("spark_catalog", transaction="a third", held_to=newest_of(before)))
    of_both = expected(before + after)
    bronze = sorted((row["partition"], row["offset"], row["value"]) for row in pipeline.rows("bronze.kafka_multiplex"))
    assert bronze == of_both["bronze"]
    assert (
        sorted((r["device_id"], r["read_at"], r["bpm"]) for r in pipeline.rows("silver.heart_rate"))
        == of_both["silver"]
    )
    refused = [(row["partition"], row["offset"], row["value"]) for row in pipeline.rows("ops.quarantine")]
    assert len(refused) == len(set(refused)) == of_both["quarantined"]


def test_what_a_new_checkpoint_writes_is_written_again_where_a_packing_was_quicker(
    write: Callable[..., Any], pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = records(day_of_messages(seed=4))
    write(rows[:60], 0)
    append, overtaken = batch_writes._append, []

    def overtakes(frame: Any, table: str, *rest: Any) -> None:
        if table.endswith(batch_writes.MULTIPLEX) and not overtaken:
            overtaken.append(table)
            raise PySparkException("[DELTA_CONCURRENT_DELETE_READ] This transaction attempted to read files")
        append(frame, table, *rest)

    monkeypatch.setattr(batch_writes, "_append", overtakes)
    write(rows, 0, Batch("spark_catalog", transaction="another", held_to=newest_of(rows[:60])))
    assert overtaken and found(pipeline) == expected(rows)


def test_bronze_says_which_batch_it_has_had(
    spark: SparkSession, write: Callable[..., Any], pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = records(day_of_messages(seed=6))
    for number in (7, 8):
        write(rows[:60], number)
    spark.sql("OPTIMIZE bronze.kafka_multiplex")
    monkeypatch.setattr(bpm, "RECENT_COMMITS", (1, 4))
    told = [newest_batch(spark, "spark_catalog", name) for name in ("checkpoint", "another", "a third")]
    assert told == [8, None, None]
    write(rows[60:], 0, Batch("spark_catalog", transaction="another"))
    told = [newest_batch(spark, "spark_catalog", name) for name in ("checkpoint", "another", "a third")]
    assert told == [None, 0, None]


def test_a_name_that_was_closed_writes_no_further_batch(
    spark: SparkSession, write: Callable[..., Any], pipeline: Pipeline
) -> None:
    rows = records(day_of_messages(seed=6))
    write(rows[:60], 0)
    before = found(pipeline)
    bpm.close(spark, "spark_catalog", "checkpoint")
    write(rows[60:], 1)
    assert found(pipeline) == before
    write(rows, 0, Batch("spark_catalog", transaction="another", held_to=newest_of(rows[:60])))
    assert found(pipeline) == expected(rows)


def test_a_new_checkpoint_after_a_batch_that_only_wrote_its_refused_records_refuses_none_twice(
    spark: SparkSession, write: Callable[..., Any], pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = records(day_of_messages(seed=6))
    for dead in WRITES[:3]:
        monkeypatch.setattr(Batch, dead, _dies)
    with pytest.raises(ConnectionAbortedError):
        write(rows, 0)
    monkeypatch.undo()
    assert pipeline.rows("ops.quarantine") and not pipeline.rows("bronze.kafka_multiplex")
    job: Any = SimpleNamespace(table=lambda name: spark.table(f"spark_catalog.{name}"), register=lambda *names: None)
    write(rows, 0, Batch("spark_catalog", transaction="another", held_to=newest_held(job)))
    assert found(pipeline) == expected(rows)


@pytest.mark.parametrize("devices", [readings.FEW_DEVICES, readings.FEW_DEVICES + 2])
def test_what_the_table_holds_of_few_or_of_many_devices_of_a_minute_is_known_when_it_comes_again(
    write: Callable[..., Any], pipeline: Pipeline, devices: int
) -> None:
    minute = [message(device, 1_709_287_200 + 0.25 * device, 70) for device in range(devices)]
    end_of_it = [message(device, 1_709_287_259, 80) for device in range(devices)]
    rows = records([*minute, *end_of_it, *minute])
    write(rows[:devices], 0)
    write(rows[devices:], 1)
    assert found(pipeline) == expected(rows)
    assert len(pipeline.rows("silver.heart_rate")) == 2 * devices


def test_what_a_batch_found_stays_as_it_was_when_the_new_readings_are_written(
    spark: SparkSession, write: Callable[..., Any], pipeline: Pipeline
) -> None:
    rows = records(day_of_messages(seed=5))
    write(rows[:60], 0)
    accepted = readings.parsed(spark.createDataFrame(rows[60:], SCHEMA)).where("reason IS NULL")
    accepted = accepted.withColumn("minute", readings.minute_number(F.col("read_at"))).localCheckpoint()
    spans = Seen.of(accepted).spans
    held = readings.held(spark.table("spark_catalog.silver.heart_rate"), accepted, spans)
    judged = readings.judged(accepted, held).persist()

    def found() -> tuple[list[Any], list[Any]]:
        outcomes = judged.groupBy("outcome").count().collect()
        return sorted(tuple(row) for row in outcomes), sorted(
            tuple(row) for row in readings.standing(judged, held).collect()
        )

    before = found()
    assert readings.NEW in dict(before[0])
    spark.conf.unset("spark.databricks.delta.write.txnAppId")
    spark.conf.unset("spark.databricks.delta.write.txnVersion")
    readings.new_readings(judged).writeTo("spark_catalog.silver.heart_rate").append()
    assert found() == before
    judged.unpersist()
    minutes = {minute for span in spans for minute in range(span.first, span.end)}
    in_table = [row for row in pipeline.rows("silver.heart_rate") if row["read_at"].timestamp() // 60 in minutes]
    assert sorted(row["bpm"] for row in in_table) == sorted(bpm for _, _, bpm in before[1])


def test_too_much_refused_pauses_before_anything_is_written(write: Callable[..., Any], pipeline: Pipeline) -> None:
    strict = Batch("spark_catalog", transaction="checkpoint", limit=RefusalLimit(minimum=3))
    with pytest.raises(Paused, match="4 of the last 5 records"):
        write(records([b"x", b"y", b"z", b"", message(7, 1_200_000_000, 70)]), 0, strict)
    assert not any(found(pipeline).values())


def test_the_short_cut_reads_as_the_strict_rules_do(spark: SparkSession) -> None:
    numbers = ("66.62", "20", "20.000000000000001", "250", "250.0000000000001", "100", "99.123456789012345", "21.5e0")
    times = ("1575158400", "1575158400.5", "1575158400.1234567", "946684799", "946684800", "1709380800", "1709381101")
    said = [f'{{"device_id":{d},"time":{t},"heartrate":{b}}}' for d in (0, 7, -1) for t in times for b in numbers]
    said += [text.replace(":", ": ").replace(",", ", ") for text in said] + [f" {said[0]}", f"{said[0]}\n", said[0] * 2]
    said += [said[0].replace('"device_id":0', '"device_id":007'), said[0].replace("}", ',"x":1}')]
    odd = READINGS.values()
    frame = spark.createDataFrame(records([*(text.encode() for text in said), *odd]), SCHEMA)

    def rows(parse: Callable[[DataFrame], DataFrame]) -> dict[Any, Any]:
        return {(row["partition"], row["offset"]): _judgement(row) for row in parse(frame).toArrow().to_pylist()}

    assert rows(readings.parsed) == rows(parse_readings)


def _judgement(row: dict[str, Any]) -> tuple[Any, ...]:
    if row["reason"] is not None:
        return row["value"], row["reason"], row["detail"]
    return row["value"], row["device_id"], row["read_at"], row["bpm"]
