"""What truly happened, written down before anybody is told.

A run's folder `FITNESS_HOME/ledger/<run id>/` holds
- `run.json`: the options of the run;
- `journal.jsonl`: a line a batch, in the order in which they were sent: its number, its rows and messages, how many
  readings follow, and how far the story has been told;
- `readings-<segment>.arrows`: an Arrow stream for each process that told a part of the run, with a record batch for
  each batch that has readings (device_id, read_at, bpm);
- `delivered.jsonl`: a line for each batch that arrived, with when it was committed;
- `complete`: there is no more to tell.

A batch is in the journal before its first byte leaves (readings first, then the line that counts them: a line is whole
or the batch was never sent). A batch without a mark of delivery is in doubt; the next run delivers it again. That is
safe: the rows of a batch are applied in one transaction that remembers its number, and a repeated reading changes
nothing.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from local.services.part import write_private
from local.simulator import facts
from local.simulator.facts import Fact, Message, Readings, RowFact

READINGS_SCHEMA = pa.schema(
    [("device_id", pa.int64()), ("read_at", pa.timestamp("us", tz="UTC")), ("bpm", pa.float64())]
)
# Decimal times compress to a few bytes a reading; the level costs less than the disk it saves.
STREAM_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))
ROW_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        facts.Registration,
        facts.Deregistration,
        facts.Profile,
        facts.ProfileMove,
        facts.ProfileDeletion,
        facts.Visit,
        facts.VisitDeletion,
        facts.Workout,
    )
}


@dataclass
class Batch:
    """What is sent together: rows in one transaction, readings in their order, then messages as they are."""

    rows: list[RowFact] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    readings: list[Readings] = field(default_factory=list)
    reading_count: int = 0

    def add(self, fact: Fact) -> None:
        if isinstance(fact, Readings):
            self.readings.append(fact)
            self.reading_count += fact.read_at.size
        elif isinstance(fact, Message):
            self.messages.append(fact)
        else:
            self.rows.append(fact)

    def __bool__(self) -> bool:
        return bool(self.rows or self.messages or self.readings)


@dataclass(frozen=True)
class Delivery:
    """When the rows of a batch were committed: between these two times (microseconds)."""

    number: int
    begun_at: int
    ended_at: int


class LedgerInUse(Exception):
    """Another process writes to this run's ledger."""


class Ledger:
    """One run's ledger, open for writing by one process. With `options` a run begins, without it goes on.

    `told` is how many facts of the story the journal has.
    """

    def __init__(self, folder: Path, options: dict[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = (folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise LedgerInUse(f"{folder} is written by another simulator") from error
        if options is not None:
            # half of it would keep each later run from beginning
            write_private(folder / "run.json", json.dumps(options, indent=1, default=str))
        self._next, self.told = 0, 0
        for line in _whole_lines(folder / "journal.jsonl"):
            self._next, self.told = line["batch"] + 1, line["told"]
        self._journal = _open_to_append(folder / "journal.jsonl")
        self._delivered = _open_to_append(folder / "delivered.jsonl")
        self._segment = len(list(folder.glob("readings-*.arrows")))
        self._readings: pa.RecordBatchStreamWriter | None = None
        self._readings_file: pa.NativeFile | None = None

    @property
    def run_id(self) -> str:
        return self.folder.name

    def write(self, batch: Batch, told: int = 0) -> int:
        """Writes a batch down and returns its number; from then on it may be sent."""
        if batch.readings:
            self._write_readings(batch.readings)
        number, self._next, self.told = self._next, self._next + 1, told
        line = {
            "batch": number,
            "told": told,
            "rows": [_row_to_json(row) for row in batch.rows],
            "messages": [[m.topic, _to_text(m.key), _to_text(m.value)] for m in batch.messages],
            "readings": batch.reading_count,
            "segment": self._segment,
        }
        self._journal.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._journal.flush()
        return number

    def mark_delivered(self, delivery: Delivery) -> None:
        line = {"batch": delivery.number, "begun_at": delivery.begun_at, "ended_at": delivery.ended_at}
        self._delivered.write(json.dumps(line) + "\n")
        self._delivered.flush()

    def mark_complete(self) -> None:
        (self.folder / "complete").touch()

    def close(self) -> None:
        if self._readings is not None and self._readings_file is not None:
            self._readings.close()
            self._readings_file.close()
        for file in (self._journal, self._delivered, self._lock):
            file.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write_readings(self, readings: Sequence[Readings]) -> None:
        if self._readings is None or self._readings_file is None:
            self._readings_file = pa.OSFile(str(segment(self.folder, self._segment)), "wb")
            self._readings = pa.ipc.new_stream(self._readings_file, READINGS_SCHEMA, options=STREAM_OPTIONS)
        device_id, read_at, bpm = columns(readings)
        times = pa.array(read_at).cast(READINGS_SCHEMA.field("read_at").type)
        self._readings.write_batch(pa.record_batch([device_id, times, bpm], schema=READINGS_SCHEMA))
        self._readings_file.flush()


def segment(folder: Path, number: int) -> Path:
    return folder / f"readings-{number:03d}.arrows"


def _open_to_append(path: Path) -> TextIO:
    """Half a line, left by a killed process, goes first."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    return path.open("a")


def columns(readings: Sequence[Readings]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Readings of several devices as the columns device_id, read_at (microseconds) and bpm, order kept."""
    sizes = [part.read_at.size for part in readings]
    return (
        np.repeat(np.array([part.device_id for part in readings], dtype=np.int64), sizes),
        np.concatenate([part.read_at for part in readings]),
        np.concatenate([part.bpm for part in readings]),
    )


def run_id(mode: str, seed: int, now: datetime | None = None) -> str:
    """Sorts by when the run began."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{mode}-seed{seed}"


def runs(ledger: Path) -> list[Path]:
    """The folders of all runs, oldest first."""
    return sorted(path.parent for path in ledger.glob("*/run.json"))


def options(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def is_complete(folder: Path) -> bool:
    return (folder / "complete").exists()


def read_batches(folder: Path, with_readings: bool = True) -> Iterator[tuple[int, Batch]]:
    """All batches of a run as (number, batch), in the order in which they were sent."""
    opened = -1
    stream: Iterator[pa.RecordBatch] = iter(())
    for line in _whole_lines(folder / "journal.jsonl"):
        batch = Batch(
            [_row_from_json(row) for row in line["rows"]],
            [Message(topic, _to_bytes(key), _to_bytes(value)) for topic, key, value in line["messages"]],
        )
        if line["readings"] and with_readings:
            if line["segment"] != opened:
                opened, stream = line["segment"], _record_batches(segment(folder, line["segment"]))
            for part in stretches(next(stream)):
                batch.add(part)
        yield line["batch"], batch


def deliveries(folder: Path) -> dict[int, Delivery]:
    lines = _whole_lines(folder / "delivered.jsonl")
    return {line["batch"]: Delivery(line["batch"], line["begun_at"], line["ended_at"]) for line in lines}


def in_doubt(folder: Path) -> list[tuple[int, Batch]]:
    """The batches of a run of which nobody knows whether they arrived."""
    arrived = deliveries(folder)
    if all(line["batch"] in arrived for line in _whole_lines(folder / "journal.jsonl")):
        return []
    return [(number, batch) for number, batch in read_batches(folder) if number not in arrived]


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines that end: what a killed process began to write does not count."""
    if not path.exists():
        return
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _record_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        # The stream of a killed process has no end mark and perhaps half a batch, which no journal line counts.
        while True:
            try:
                yield stream.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return


def stretches(record_batch: pa.RecordBatch) -> Iterator[Readings]:
    """The readings of columns device_id, read_at, bpm in their order, as stretches of one device each."""
    device_id = record_batch.column(0).to_numpy()
    read_at = record_batch.column(1).cast(pa.int64()).to_numpy()
    bpm = record_batch.column(2).to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(device_id)) + 1).tolist(), device_id.size]
    for begin, end in pairwise(edges):
        yield Readings(int(device_id[begin]), read_at[begin:end], bpm[begin:end])


def _row_to_json(row: RowFact) -> list[Any]:
    values = (getattr(row, f.name) for f in fields(row))
    return [type(row).__name__, *(value.isoformat() if isinstance(value, date) else value for value in values)]


def _row_from_json(row: list[Any]) -> RowFact:
    kind, *values = row
    made: RowFact = ROW_TYPES[kind](*values)
    if isinstance(made, facts.Profile) and isinstance(made.date_of_birth, str):
        values[1] = date.fromisoformat(values[1])
        made = facts.Profile(*values)
    return made


def _to_text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _to_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
