"""The parts of the fault drills that need nothing running: what is sent, what is planned, how it is accounted for."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bench.drills.commits import Commit, Log, out_of_order
from bench.drills.comparison import BRONZE, GOLD, QUARANTINE, RECORDS, SILVER, Findings, by_drill, compare, record
from bench.drills.drivers import JOB_FILE, DriverWatch, Span, attempts, overlaps
from bench.drills.faults import DAMAGE, DRILLS, KILLS, Played, plan
from bench.drills.load import LEDGER, read_ledger
from bench.drills.messages import DEVICES, MICROS, Sequence, reading
from bench.drills.report import Report
from include.stream import heartbeats
from local.home import Home
from tests.oracle.facts import Reading
from tests.oracle.messages import judge_reading

BEGUN_AT = 1_780_000_000 * MICROS


# What is sent


def judged(sequence: Sequence, count: int) -> list[Any]:
    """Each message as it is judged when it arrives in time."""
    return [judge_reading(sequence[number].value, sequence.due_at(number)) for number in range(count)]


def test_the_same_seed_sends_the_same() -> None:
    one, same, other = (Sequence(seed, 1000, BEGUN_AT) for seed in (7, 7, 8))
    assert [one[number] for number in range(3000)] == [same[number] for number in range(3000)]
    assert [one[number] for number in range(3000)] != [other[number] for number in range(3000)]


def test_late_repeated_contradicting_and_malformed_messages_are_among_them() -> None:
    sequence = Sequence(1, 1000, BEGUN_AT)
    outcomes = judged(sequence, 30_000)
    accepted = [said for said in outcomes if isinstance(said, Reading)]
    refused = len(outcomes) - len(accepted)
    late = sum(said.read_at < BEGUN_AT - 60 * MICROS for said in accepted)
    values: dict[tuple[int, int], list[float]] = {}
    for said in accepted:
        values.setdefault((said.device_id, said.read_at), []).append(said.bpm)
    repeated = sum(len(bpms) - len(set(bpms)) for bpms in values.values())
    contradicting = sum(len(set(bpms)) - 1 for bpms in values.values())
    assert 200 < refused < 400
    assert 400 < late < 800
    assert 300 < repeated < 800
    assert 50 < contradicting < 250


def test_nothing_is_sent_from_the_future() -> None:
    """A commit with a reading of after the fault is taken for recovery."""
    sequence = Sequence(3, 1000, BEGUN_AT)
    for number, said in enumerate(judged(sequence, 5000)):
        assert not isinstance(said, Reading) or said.read_at <= sequence.due_at(number)


def test_a_device_sends_at_its_own_pace() -> None:
    sequence = Sequence(1, 500, BEGUN_AT)
    first, second = reading(sequence, 17), reading(sequence, 17 + DEVICES)
    assert first[0] == second[0]
    assert second[1] - first[1] == DEVICES * MICROS // 500


# What is planned


def test_kills_are_shared_out_evenly_and_in_the_order_of_the_seed() -> None:
    names = list(DRILLS)
    planned = [drill.name for drill in plan(1, 100, names)]
    assert Counter(planned[:100]) == {drill.name: 20 for drill in KILLS}
    assert planned == [drill.name for drill in plan(1, 100, names)]
    assert planned != [drill.name for drill in plan(2, 100, names)]


def test_only_what_is_picked_is_planned() -> None:
    assert [drill.name for drill in plan(1, 2, ["driver", "hang"])] == ["driver", "driver", "hang"]
    assert [drill.name for drill in plan(1, 50, ["hang"])] == ["hang"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_heartbeat_cannot_be_read(kind: str, tmp_path: Path) -> None:
    whole = json.dumps({"format": 1, "version": "v", "window": [], "position": 5}, indent=1).encode()
    for seed in range(20):
        (tmp_path / "bpm.json").write_bytes(DAMAGE[kind](whole, random.Random(seed)))
        beat, why = heartbeats.read(tmp_path / "bpm.json")
        assert beat is None
        assert why


# What is seen


def test_spans_that_touch_do_not_overlap() -> None:
    spans = [Span("a", 0, 10), Span("b", 10, 20), Span("c", 19, 30)]
    assert overlaps(reversed(spans)) == [(spans[1], spans[2])]


def commit(folder: Path, version: int, at: float, *actions: dict[str, Any]) -> None:
    file = folder / "_delta_log" / f"{version:020d}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(action) + "\n" for action in actions))
    os.utime(file, (at, at))


def add(read_at: str, data_change: bool = True) -> dict[str, Any]:
    return {
        "add": {
            "path": "a%20b.parquet",
            "dataChange": data_change,
            "stats": json.dumps({"maxValues": {"read_at": read_at}}),
        }
    }


def test_recovery_is_the_first_commit_with_a_reading_of_after_the_fault(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert log.look() == []
    fault = 1_772_366_405.0  # 2026-03-01T12:00:05Z
    commit(tmp_path, 0, fault - 5, add("2026-03-01T11:59:58.000Z"))
    commit(tmp_path, 1, fault + 1, add("2026-03-01T12:00:04.000Z"))  # was under way
    commit(tmp_path, 2, fault + 2, add("2026-03-01T12:00:09.000Z", data_change=False))  # packs small files
    assert log.first_with_news(fault) is None
    assert log.first_of_batch(fault) == log.commits[1]
    assert log.first_of_batch(fault + 1) is None
    commit(tmp_path, 3, fault + 9, add("2025-01-01T00:00:00.000Z"), add("2026-03-01T12:00:06.000Z"))
    found = log.first_with_news(fault)
    assert found is not None
    assert (found.version, found.at) == (3, fault + 9)
    assert log.newest_reading() == fault + 1
    assert log.lag(batches=2) == 8.0


def test_half_a_commit_is_read_later(tmp_path: Path) -> None:
    commit(tmp_path, 0, 1, add("2026-03-01T12:00:00.000Z"))
    (tmp_path / "_delta_log" / f"{1:020d}.json").write_text('{"add": {"dataCh')
    log = Log(tmp_path)
    assert [found.version for found in log.look()] == [0]
    commit(tmp_path, 1, 2, add("2026-03-01T12:00:01.000Z"))
    assert [found.version for found in log.look()] == [0, 1]


def test_a_batch_that_is_committed_twice_is_out_of_order() -> None:
    numbers = [("q", 1), ("q", 2), ("other", 1), ("q", 2), ("q", 3)]
    commits = [Commit(version, 0, 0, True, (transaction,)) for version, transaction in enumerate(numbers)]
    assert out_of_order(commits) == [3]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Starts an attempt of a home in `tmp_path` that runs a file and sleeps."""
    started: list[subprocess.Popen[bytes]] = []

    def attempt(number: str, file: str) -> None:
        script = tmp_path / file
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
        folder = tmp_path / "workspace" / "attempts" / number / "0"
        folder.mkdir(parents=True)
        argv = [sys.executable, str(script)]
        (folder / "spec.json").write_text(json.dumps({"argv": argv}))
        started.append(
            subprocess.Popen(argv, env={**os.environ, "FITNESS_ATTEMPT": str(folder)}, stdout=subprocess.PIPE)
        )
        assert started[-1].stdout is not None
        started[-1].stdout.readline()

    yield attempt
    for process in started:
        process.kill()
        process.wait()


def test_two_drivers_at_once_are_seen(tmp_path: Path, start: Callable[[str, str], None]) -> None:
    moments = iter([1.0, 2.0, 3.0])
    watch = DriverWatch(Home(tmp_path, 26000), clock=lambda: next(moments))
    start("17", JOB_FILE)
    start("18", "spark_jobs/silver/users.py")
    watch.look()
    assert [span.name for span in watch.spans()] == ["driver of 17/0"]
    start("19", JOB_FILE)
    watch.look()
    watch.look()
    [(first, second)] = overlaps(watch.spans())
    assert (first.name, second.name) == ("driver of 17/0", "driver of 19/0")


def test_an_attempt_lasts_as_long_as_its_runner_wrote(tmp_path: Path, start: Callable[[str, str], None]) -> None:
    start("17", JOB_FILE)
    start("18", "spark_jobs/silver/users.py")
    result = tmp_path / "workspace" / "attempts" / "17" / "0" / "result.json"
    result.write_text('{"start_ms": 5000, "end_ms": 7500}')
    assert attempts(Home(tmp_path, 26000)) == [Span("attempt 17/0", 5.0, 7.5)]


# What is accounted for

SAID = [  # of one device, in the order of arrival; number, seconds, bpm
    (0, 0, b"60.5"),
    (1, 1, b"61.25"),
    (2, 1, b"61.25"),  # again
    (3, 1, b"99.0"),  # contradicts
    (4, 61, b"70.0"),
    (5, 62, b"400"),  # implausible
]


def minute(start: int, *bpm: float) -> dict[str, Any]:
    names = ("min_bpm", "avg_bpm", "max_bpm", "readings")
    return {"device_id": 7, "minute": start * MICROS, **dict(zip(names, bpm, strict=True))}


def world() -> tuple[pa.Table, pa.Table, dict[str, list[dict[str, Any]]]]:
    """Topic, ledger, and the tables as they should be."""
    start = BEGUN_AT // MICROS
    start -= start % 60
    rows = [
        record(
            [("number", b"%d" % number)],
            2,
            10 + number,
            (start + 100) * 1000,
            b'{"device_id":7,"time":%d,"heartrate":%s}' % (start + second, bpm),
        )
        for number, second, bpm in SAID
    ]
    ledger = [
        {"number": n, "produced_at": BEGUN_AT + n * MICROS, "acknowledged_at": 0, "partition": 2, "offset": 10 + n}
        for n, _, _ in SAID
    ]
    refused = {"topic": "bpm", "partition": 2}
    tables: dict[str, list[dict[str, Any]]] = {
        BRONZE: [{name: row[name] for name in ("partition", "offset", "value")} for row in rows],
        SILVER: [
            {"device_id": 7, "read_at": (start + second) * MICROS, "bpm": bpm}
            for second, bpm in ((0, 60.5), (1, 61.25), (61, 70.0))
        ],
        GOLD: [
            minute(start, 60.5, 60.875, 61.25, 2),
            minute(start + 60, 70.0, 70.0, 70.0, 1),
        ],
        QUARANTINE: [
            {**refused, "offset": 13, "value": rows[3]["value"], "reason": "conflicting_reading"},
            {**refused, "offset": 15, "value": rows[5]["value"], "reason": "out_of_range"},
        ],
    }
    return pa.Table.from_pylist(rows, RECORDS), pa.Table.from_pylist(ledger, LEDGER), tables


INSTANT = pa.timestamp("us", tz="UTC")
SCHEMAS = {
    BRONZE: pa.schema({"partition": pa.int32(), "offset": pa.int64(), "value": pa.binary()}),
    SILVER: pa.schema({"device_id": pa.int64(), "read_at": INSTANT, "bpm": pa.float64()}),
    GOLD: pa.schema(
        {
            "device_id": pa.int64(),
            "minute": INSTANT,
            **dict.fromkeys(("min_bpm", "avg_bpm", "max_bpm"), pa.float64()),
            "readings": pa.int64(),
        }
    ),
    QUARANTINE: pa.schema(
        {
            "topic": pa.string(),
            "partition": pa.int32(),
            "offset": pa.int64(),
            "value": pa.binary(),
            "reason": pa.string(),
        }
    ),
}


def account(tables: dict[str, list[dict[str, Any]]]) -> Findings:
    topic, ledger, _ = world()
    return compare(topic, ledger, {name: pa.Table.from_pylist(rows, SCHEMAS[name]) for name, rows in tables.items()})


def test_tables_as_they_should_be_show_no_difference() -> None:
    findings = account(world()[2])
    assert not any(findings.tables.values())
    assert (findings.records, findings.acknowledged, findings.refused, findings.repeated) == (6, 6, 2, 1)


@pytest.mark.parametrize("name", [BRONZE, SILVER, GOLD, QUARANTINE])
def test_a_row_that_is_gone_is_lost(name: str) -> None:
    tables = world()[2]
    tables[name].pop()
    findings = account(tables)
    assert findings.tables[name].lost == [{BRONZE: 5, SILVER: 4, GOLD: 4, QUARANTINE: 5}[name]]
    assert sum(map(bool, findings.tables.values())) == 1


@pytest.mark.parametrize("name", [BRONZE, SILVER, GOLD, QUARANTINE])
def test_a_row_that_is_there_twice_is_duplicated(name: str) -> None:
    tables = world()[2]
    tables[name].append(tables[name][-1])
    findings = account(tables)
    assert findings.tables[name].duplicated == [{BRONZE: 5, SILVER: 4, GOLD: 4, QUARANTINE: 5}[name]]
    assert sum(map(bool, findings.tables.values())) == 1


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [(BRONZE, "value", b"?"), (SILVER, "bpm", 99.0), (GOLD, "avg_bpm", 60.8751), (QUARANTINE, "reason", "no_value")],
)
def test_a_row_that_says_something_else_is_wrong(name: str, column: str, value: Any) -> None:
    tables = world()[2]
    tables[name][0][column] = value
    difference = account(tables).tables[name]
    assert len(difference.wrong) == 1
    assert not difference.lost
    assert not difference.duplicated


def test_a_row_that_nobody_sent_counts_as_duplicated() -> None:
    tables = world()[2]
    tables[SILVER].append({"device_id": 8, "read_at": BEGUN_AT, "bpm": 60.0})
    assert account(tables).tables[SILVER].duplicated == [-1]


def test_a_minute_with_too_many_readings_counts_each() -> None:
    tables = world()[2]
    tables[GOLD][0]["readings"] = 5
    assert account(tables).tables[GOLD].duplicated == [1, 1, 1]


def test_what_kafka_acknowledged_and_lost_is_lost() -> None:
    topic, ledger, tables = world()
    found = {name: pa.Table.from_pylist(rows, SCHEMAS[name]) for name, rows in tables.items()}
    more = {"number": 6, "produced_at": 0, "acknowledged_at": 0, "partition": 2, "offset": 16, "value": b"x"}
    findings = compare(topic, pa.concat_tables([ledger, pa.Table.from_pylist([more], LEDGER)]), found)
    assert findings.not_on_topic == [6]
    assert findings.tables[BRONZE].lost == [6]


def test_a_loss_is_counted_for_the_drill_in_which_it_was_produced() -> None:
    _, ledger, _ = world()
    begun = BEGUN_AT / MICROS
    assert by_drill([0, 1, 2, 4, 4, -1], ledger, [begun + 1.5, begun + 3.5]) == [4, 2]


def test_a_ledger_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    _, ledger, _ = world()
    with pa.OSFile(str(tmp_path / "l"), "wb") as file, pa.ipc.new_stream(file, LEDGER) as writer:
        writer.write_table(ledger)
        writer.write_table(ledger)
    whole = (tmp_path / "l").read_bytes()
    (tmp_path / "l").write_bytes(whole[:-60])
    assert read_ledger(tmp_path / "l").num_rows == len(SAID)


# What is told


def test_a_report_without_comparison_is_not_good() -> None:
    report = Report(1, 1000, False, False, 0.0, [Played("driver", 10.0, 10.0, 19.0, 22.5, detail="jvm")])
    assert not report.is_good
    assert "| driver | 1 | 9.0 | 12.5 |" in report.text()
    assert "not compared" in report.text()
    report.findings = account(world()[2])
    assert report.is_good
    assert json.loads(json.dumps(report.document()))["is_good"]


def test_seconds_of_recovery_count_from_the_end_of_the_fault() -> None:
    played = Played("kafka-away", broken_at=100.0, mended_at=160.0, recovered_at=172.0, part_back_at=165.0)
    assert (played.recovery_seconds, played.part_back_seconds) == (12.0, 65.0)
