"""The stream's word about itself, and the fence that keeps it alone.

Three kinds of small files lie in one folder (a local path, or a volume on Databricks, both plain paths to Python):
- `bpm.json`: the heartbeat, replaced whole. It carries a window of earlier samples, so that one read tells a trend.
- `bpm.epochs/00000007.json`: whoever starts claims the next number; a stream that sees a higher one than its own stops.
- `bpm.stop`: an epoch; streams of that epoch or before finish their batch and end (a roll, or a wanted stop).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from spark_jobs.files import Offsets, replace_file

FORMAT = 1
WINDOW_SAMPLES = 72  # of at least SAMPLE_EVERY each: six minutes, more than the longest rule of the judge looks back
SAMPLE_EVERY = timedelta(seconds=5)
KEPT_EPOCHS = 20
KEPT_CRASHES = 20

Clock = Callable[[], datetime]


def now_utc() -> datetime:
    return datetime.now(UTC)


def total(offsets: Offsets | None) -> int | None:
    """Offsets summed over partitions: one number that only grows, enough to judge progress by."""
    return None if offsets is None else sum(sum(partitions.values()) for partitions in offsets.values())


@dataclass(frozen=True)
class Epoch:
    """A claim on the stream. The newest claim wins; Delta's transaction identifiers make a late loser harmless."""

    number: int
    folder: Path

    @classmethod
    def claim(cls, heartbeat: Path, run_id: str, clock: Clock = now_utc) -> Epoch:
        """Take the next number. Two that start at once get two numbers: exclusive creation admits one a file.

        Above all that was ever claimed, also when the folder is lost: a stop that was asked of an epoch before is not
        meant for this one, and a stream that still has such an epoch must see that it is not the newest.
        """
        folder = heartbeat.with_suffix(".epochs")
        folder.mkdir(parents=True, exist_ok=True)
        before = max(_document(heartbeat)["epoch"], _stopped_to(heartbeat))
        while True:
            taken = _claims(folder)
            number = max([before, *taken]) + 1
            try:
                with _file_of(folder, number).open("x") as claim:
                    json.dump({"run_id": run_id, "claimed_at": clock().isoformat()}, claim)
            except FileExistsError:
                continue
            for old in taken[:-KEPT_EPOCHS]:
                _file_of(folder, old).unlink(missing_ok=True)
            return cls(number, folder)

    @property
    def fenced(self) -> bool:
        """Whether somebody claimed the stream after us."""
        return any(number > self.number for number in _claims(self.folder))


def _claims(folder: Path) -> list[int]:
    """The epochs that are claimed, ascending; of old ones the newest."""
    return sorted(int(file.stem) for file in folder.glob("*.json") if file.stem.isdigit())


def _file_of(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.json"


def stop_requested(heartbeat: Path, epoch: int) -> bool:
    """Whether streams of this epoch are to end."""
    return _stopped_to(heartbeat) >= epoch


def _stopped_to(heartbeat: Path) -> int:
    """The newest epoch that was asked to stop, 0 when none was."""
    try:
        return int(heartbeat.with_suffix(".stop").read_text())
    except (FileNotFoundError, ValueError):
        return 0


@dataclass
class Heart:
    """Writes the heartbeat of one run."""

    path: Path
    query: str
    version: str
    checkpoint_version: int
    run_id: str
    epoch: int
    clock: Clock = now_utc
    _window: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=WINDOW_SAMPLES), repr=False)
    _started_at: datetime = field(init=False)
    _progressed_at: datetime = field(init=False)
    _totals: dict[str, int] = field(default_factory=dict, repr=False)
    # when starts followed on a run that did not end well
    _crashes: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_CRASHES), repr=False)

    def __post_init__(self) -> None:
        self._started_at = self._progressed_at = self.clock()
        before = _document(self.path)
        self._window.extend(before["window"])
        self._crashes.extend(before["crashes"])
        if before["state"] not in ("", "stopped"):
            self._crashes.append(self._started_at.isoformat())

    def progressed(self) -> None:
        """A batch is written, or there was none to write."""
        self._progressed_at = self.clock()

    def looked(self, at: datetime, position: int | None, latest: int | None) -> None:
        """The query looked for what is new, at `at`: it had read so far and the topic went so far (None: not said)."""
        newest = self._window[-1] if self._window else None
        if position is None:
            return
        if newest and newest["epoch"] == self.epoch and at - datetime.fromisoformat(newest["at"]) < SAMPLE_EVERY:
            return
        self._window.append({"at": at.isoformat(), "epoch": self.epoch, "position": position, "latest": latest})

    def count(self, rows: dict[str, int]) -> None:
        """Add one batch's rows to this run's totals."""
        for name, number in rows.items():
            self._totals[name] = self._totals.get(name, 0) + number

    def beat(
        self,
        state: str,
        *,
        reason: str = "",
        batch: dict[str, Any] | None = None,
        end_offsets: Offsets | None = None,
        latest_offsets: Offsets | None = None,
    ) -> dict[str, Any]:
        """Replace the document. `batch` is what the newest batch said about itself (number, times, rows, durations)."""
        position, latest = total(end_offsets), total(latest_offsets)
        document = {
            "format": FORMAT,
            "query": self.query,
            "version": self.version,
            "checkpoint_version": self.checkpoint_version,
            "run_id": self.run_id,
            "epoch": self.epoch,
            "state": state,
            "reason": reason,
            "started_at": self._started_at.isoformat(),
            "written_at": self.clock().isoformat(),
            "progressed_at": self._progressed_at.isoformat(),
            "end_offsets": end_offsets,
            "latest_offsets": latest_offsets,
            "position": position,
            "latest": latest,
            "lag": None if position is None or latest is None else max(0, latest - position),
            "batch": batch,
            "totals": self._totals,
            "crashes": list(self._crashes),
            "window": list(self._window),
        }
        replace_file(self.path, json.dumps(document, indent=1))
        return document


def _document(path: Path) -> dict[str, Any]:
    """What the run before left: epoch, state, window and crashes; nothing of these when missing or damaged."""
    try:
        document = json.loads(path.read_text())
        window = [sample for sample in document["window"] if {"at", "epoch", "position", "latest"} <= sample.keys()]
        crashes = list(document.get("crashes", ()))
        return {"epoch": int(document["epoch"]), "state": document["state"], "window": window, "crashes": crashes}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {"epoch": 0, "state": "", "window": [], "crashes": []}
