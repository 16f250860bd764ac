"""When the stream packs small files, and what a batch that comes meanwhile sees of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spark_jobs.streaming import bpm
from spark_jobs.streaming.batch import HEART_RATE, MULTIPLEX, TRENDS, Batch, Report
from spark_jobs.streaming.heartbeat import now_utc


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int], bpm.Stream]:
    """A stream of an epoch."""

    def stream(number: int) -> bpm.Stream:
        arguments = bpm.arguments().parse_args(["--catalog", "c", "--bootstrap-servers", "b", "--heartbeat", "h"])
        job: Any = SimpleNamespace(spark=None, path=lambda table: table, arguments=arguments)
        heart: Any = SimpleNamespace(path=tmp_path / "bpm.json", progressed=lambda: None, count=lambda rows: None)
        epoch: Any = SimpleNamespace(number=number, fenced=False)
        return bpm.Stream(job, heart, epoch, Batch("catalog"), threading.Event())

    return stream


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpm, "MAINTENANCE_SECONDS", 0.0)
    monkeypatch.setattr(bpm, "FIRST_MAINTENANCE_SECONDS", 0.0)


@pytest.fixture
def stream(make: Callable[[int], bpm.Stream]) -> bpm.Stream:
    return make(0)


def packed_by(monkeypatch: pytest.MonkeyPatch, deed: Callable[[], None]) -> list[tuple[str, str]]:
    """Table and thread of each packing from now on, in which `deed` is done."""
    seen: list[tuple[str, str]] = []

    def pack(spark: Any, table: str, where: str) -> None:
        seen.append((table, threading.current_thread().name))
        deed()

    monkeypatch.setattr(bpm.packing, "pack", pack)
    return seen


def maintained(stream: bpm.Stream) -> None:
    """Maintain, and wait for what goes on beside."""
    stream._maintain(bpm.MAINTENANCE_SECONDS)
    if stream._beside.is_alive():
        stream._beside.join()


def test_batches_go_on_beside_the_packing_of_a_table_they_append_to(
    stream: bpm.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    seen = packed_by(monkeypatch, lambda: bool(go.wait(60)))
    stream._maintain(0)  # returns although the packing goes on
    stream._maintain(0)  # one at a time
    go.set()
    stream._beside.join()
    assert seen == [(MULTIPLEX, "packing")]


def test_a_table_that_batches_merge_into_is_packed_between_them(
    stream: bpm.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = packed_by(monkeypatch, lambda: None)
    for _ in range(3):
        maintained(stream)
    assert set(seen) == {(MULTIPLEX, "packing"), (TRENDS, threading.current_thread().name), (HEART_RATE, "packing")}


def test_where_no_driver_lives_for_long_each_table_is_packed_nevertheless(
    make: Callable[[int], bpm.Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = packed_by(monkeypatch, lambda: None)
    for epoch in range(7, 10):
        maintained(make(epoch))
    assert {table for table, _ in seen} == {MULTIPLEX, TRENDS, HEART_RATE}


def test_packing_is_put_off_while_the_stream_catches_up_and_not_for_ever(
    make: Callable[[int], bpm.Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(bpm.time, "monotonic", lambda: now)
    stream, seen, packed_after = make(1), packed_by(monkeypatch, lambda: None), []
    for seconds, records in ((1, 300_000), (1, 299_998), (1, 1_000), (1, 300_000), (900, 300_000)):
        now += seconds
        report = Report(0, now_utc(), dict.fromkeys(bpm.COUNTED, 0) | {"in": records})
        monkeypatch.setattr(stream.batch, "write", lambda parsed, number, report=report: report)
        stream.on_batch(cast(Any, None), 0)
        if stream._beside.is_alive():
            stream._beside.join()
        packed_after.append(len(seen))
    assert packed_after == [0, 0, 1, 1, 2]


def test_a_batch_that_fails_while_its_end_is_waited_for_does_not_count_as_stopped(
    make: Callable[[int], bpm.Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, said = make(1), []
    monkeypatch.setattr(stream.heart, "beat", lambda state, **rest: said.append(state), raising=False)

    def write(parsed: Any, number: int) -> Report:
        stream.signalled.set()
        raise OSError("No space left on device")

    monkeypatch.setattr(stream.batch, "write", write)
    with pytest.raises(OSError, match="space"):
        stream.on_batch(cast(Any, None), 0)
    with pytest.raises(bpm.BrokenOff):
        stream.run(cast(Any, None))
    assert said == ["failed"]


def test_a_start_is_left_alone_for_a_while(make: Callable[[int], bpm.Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(bpm, "MAINTENANCE_SECONDS", 240.0)
    monkeypatch.setattr(bpm, "FIRST_MAINTENANCE_SECONDS", 100.0)
    monkeypatch.setattr(bpm.time, "monotonic", lambda: now)
    seen = packed_by(monkeypatch, lambda: None)
    stream = make(1)
    counted = []
    for then in (1099.0, 1101.0, 1340.0, 1342.0):
        now = then
        maintained(stream)
        counted.append(len(seen))
    assert counted == [0, 1, 1, 2]


def test_packing_that_fails_does_not_end_the_stream(stream: bpm.Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ConnectionAbortedError

    seen = packed_by(monkeypatch, fail)
    for _ in range(3):
        maintained(stream)
    assert len(seen) == 3
