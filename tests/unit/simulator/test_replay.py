from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.simulator.facts import Readings
from local.simulator.replay import Recording, UnreadableRecording

BEGIN = datetime(2016, 4, 1, tzinfo=UTC)
# The second device's readings lie before the first's: no time passes between them.
OFFSETS = [(7, 0), (7, 1), (7, 10), (8, 2), (8, 2), (8, 4)]


def recording(path: Path, **changes: pa.Array | None) -> Path:
    columns = {
        "device_id": pa.array([device for device, _ in OFFSETS], pa.int64()),
        "read_at": pa.array([BEGIN + timedelta(seconds=s) for _, s in OFFSETS], pa.timestamp("us", tz="UTC")),
        "heartrate": pa.array([60.0 + n for n in range(len(OFFSETS))]),
    } | changes
    pq.write_table(pa.table({name: column for name, column in columns.items() if column is not None}), path)
    return path


def readings(path: Path, limit: int | None = None, step: int | None = None) -> list[tuple[int, int, float]]:
    found = []
    for arrives_at, fact in Recording(path, limit).story(step):
        assert isinstance(fact, Readings)
        found += [(arrives_at // 1_000_000, fact.device_id, bpm) for bpm in fact.bpm.tolist()]
    return found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_heart_rate_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    path = recording(tmp_path / "file.parquet", heartrate=pa.array([value] * len(OFFSETS)))
    with pytest.raises(UnreadableRecording, match="heartrate is no number in 6 of 6 rows"):
        readings(path)


def test_readings_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = recording(tmp_path / "file.parquet")
    assert [(device, bpm) for _, device, bpm in readings(path)] == [
        (device, 60.0 + n) for n, (device, _) in enumerate(OFFSETS)
    ]
    assert len(readings(path, limit=4)) == 4
    assert Recording(path, limit=4).rows == 4


def test_time_passes_as_in_the_recording_but_never_back(tmp_path: Path) -> None:
    path = recording(tmp_path / "file.parquet")
    assert [moment for moment, _, _ in readings(path, step=1_000_000)] == [0, 1, 10, 10, 10, 12]


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ms", tz="Europe/Brussels"), pa.timestamp("s")])
def test_any_timestamp_is_taken(tmp_path: Path, kind: pa.DataType) -> None:
    times = pa.array([int(BEGIN.timestamp())] * 6, pa.timestamp("s")).cast(pa.timestamp(kind.unit))
    path = recording(tmp_path / "file.parquet", read_at=times.cast(kind), heartrate=pa.array([60] * 6))
    [(_, part), *_] = list(Recording(path).story())
    assert isinstance(part, Readings)
    assert part.read_at[0] == BEGIN.timestamp() * 1_000_000


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"heartrate": None}, "no column heartrate", id="missing column"),
        pytest.param({"device_id": pa.array(["a"] * 6)}, "device_id is string, not an integer", id="text id"),
        pytest.param({"read_at": pa.array([1.5] * 6)}, "read_at is double, not a timestamp", id="number for a time"),
        pytest.param({"device_id": pa.array([2**63] * 6, pa.uint64())}, "not in range", id="id of 64 bits unsigned"),
        pytest.param({"heartrate": pa.array([1.0, None] * 3)}, "heartrate is null in 3 of 6 rows", id="nulls"),
    ],
)
def test_what_cannot_be_replayed_is_said(tmp_path: Path, changes: dict[str, pa.Array], sentence: str) -> None:
    path = recording(tmp_path / "file.parquet", **changes)
    with pytest.raises(UnreadableRecording, match=sentence):
        readings(path)


def test_files_that_are_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRecording, match="there is no file"):
        Recording(tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UnreadableRecording, match="no Parquet file"):
        Recording(tmp_path / "text.parquet")
