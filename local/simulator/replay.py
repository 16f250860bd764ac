"""Recorded readings from a Parquet file, as a story: in the file's order, at the times between them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from local.simulator.facts import SECOND
from local.simulator.ledger import READINGS_SCHEMA, stretches
from local.simulator.world import Arrival

ROWS_AT_ONCE = 20_000


class UnreadableRecording(Exception):
    """The file cannot be replayed; the message says why."""


class Recording:
    """A Parquet file with `device_id` (integer), `read_at` (timestamp; without zone: UTC) and `heartrate` (number)."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        if not path.is_file():
            raise UnreadableRecording(f"there is no file {path}")
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise UnreadableRecording(f"{path} is no Parquet file: {error}") from error
        schema = self._file.schema_arrow
        accepted = {
            "device_id": ("an integer", pa.types.is_integer),
            "read_at": ("a timestamp", pa.types.is_timestamp),
            "heartrate": ("a number", lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind)),
        }
        faults = []
        for name, (wanted, is_right) in accepted.items():
            if name not in schema.names:
                faults.append(f"it has no column {name}")
            elif not is_right(schema.field(name).type):
                faults.append(f"{name} is {schema.field(name).type}, not {wanted}")
        if faults:
            raise UnreadableRecording(f"{path} cannot be replayed: {'; '.join(faults)}")
        rows = self._file.metadata.num_rows
        self.rows = rows if limit is None else min(rows, limit)

    def story(self, step: int | None = None) -> Iterator[Arrival]:
        """Arrivals from time 0 on, at most `step` microseconds of recorded time in each (None: as large as can be).

        Where the recording jumps back (the next person's readings) no time passes.
        """
        elapsed, before, left = 0, None, self.rows
        for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=["device_id", "read_at", "heartrate"]):
            part = self._checked(batch.slice(0, left))
            left -= part.num_rows
            read_at = part.column(1).cast(pa.int64()).to_numpy()
            if not read_at.size:
                return
            steps = np.diff(read_at, prepend=read_at[0] if before is None else before).clip(0)
            moments = elapsed + np.cumsum(steps)
            elapsed, before = int(moments[-1]), int(read_at[-1])
            cuts = np.flatnonzero(np.diff(moments // step)) + 1 if step else np.array([], dtype=np.int64)
            for begin, end in pairwise([0, *cuts.tolist(), read_at.size]):
                for readings in stretches(part.slice(begin, end - begin)):
                    yield Arrival(int(moments[end - 1]), readings)

    def _checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if column.null_count:
                raise UnreadableRecording(f"{name} is null in {column.null_count} of {batch.num_rows} rows")
        read_at = batch.column("read_at")
        try:
            columns = [
                batch.column("device_id").cast(pa.int64()),
                read_at.cast(pa.timestamp("us", tz="UTC"), safe=False),
                batch.column("heartrate").cast(pa.float64()),
            ]
        except pa.ArrowInvalid as error:
            raise UnreadableRecording(str(error)) from error
        if odd := int((~np.isfinite(columns[2].to_numpy(zero_copy_only=False))).sum()):
            raise UnreadableRecording(f"heartrate is no number in {odd} of {batch.num_rows} rows")
        return pa.record_batch(columns, schema=READINGS_SCHEMA)


def recorded_step(speed: float) -> int:
    """A quarter of a second on the wall, in microseconds of recorded time."""
    return max(1, round(speed * SECOND / 4))
