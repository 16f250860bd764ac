"""What the drills showed, as tables for people and as a document for programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psutil

from bench.drills.comparison import Findings
from bench.drills.faults import DRILLS, Played

WANTED = {  # what is asked of the product: drill -> what, and within how many seconds
    "driver": ("first commit", 15),
    "hang": ("noticed", 90),
    "batch-hang": ("noticed", 90),
    "outage": ("caught up", 60),
}
MEASURES = {"first commit": "commit_seconds", "noticed": "noticed_seconds", "caught up": "recovery_seconds"}


@dataclass
class Report:
    seed: int
    rate: int
    batch_jobs: bool
    lake_in_memory: bool
    begun_at: float
    played: list[Played] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)  # drill -> why
    findings: Findings | None = None
    per_drill: dict[str, list[int]] = field(default_factory=dict)  # "lost silver.heart_rate" -> number by drill played
    overlaps: list[str] = field(default_factory=list)
    attempts: int = 0
    batches_out_of_order: int = 0
    ended: str = "complete"

    @property
    def is_good(self) -> bool:
        """Everything ran, recovered by itself and is exact. Speed is told, not judged: it depends on the machine."""
        exact = self.findings is not None and not any(self.findings.tables.values())
        quiet = not self.overlaps and not self.batches_out_of_order
        return exact and quiet and self.ended == "complete" and not any(p.failure for p in self.played)

    def document(self) -> dict[str, Any]:
        seconds = [
            {
                "first_commit": p.commit_seconds,
                "recovery": p.recovery_seconds,
                "noticed": p.noticed_seconds,
                "part_back": p.part_back_seconds,
            }
            for p in self.played
        ]
        return {**asdict(self), "seconds": seconds, "machine": machine(), "is_good": self.is_good}

    def text(self) -> str:
        return "\n\n".join(part for part in (self._heading(), self._drills(), self._tables(), self._rest()) if part)

    def _heading(self) -> str:
        when = datetime.fromtimestamp(self.begun_at, UTC)
        batch = "with" if self.batch_jobs else "without"
        lake = "in memory" if self.lake_in_memory else "on disk"
        return (
            f"# Fault drills of the heart-rate stream\n\n{when:%Y-%m-%d %H:%M} UTC, seed {self.seed}, {self.rate}"
            f" readings/s, {batch} batch jobs beside them, lake {lake}, {machine()}. Run: {self.ended}."
        )

    def _drills(self) -> str:
        """A line a drill."""
        rows = [
            "| drill | n | first commit | recovered | noticed | part back | lost | duplicated | wrong | started twice"
            " | failed |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name in dict.fromkeys(played.drill for played in self.played):
            of_drill = [(number, played) for number, played in enumerate(self.played) if played.drill == name]
            played = [p for _, p in of_drill]
            counts = [self._count(kind, [number for number, _ in of_drill]) for kind in ("lost", "duplicated", "wrong")]
            cells = [
                name,
                str(len(played)),
                _spread([p.commit_seconds for p in played]),
                _spread([p.recovery_seconds for p in played]),
                _spread([p.noticed_seconds for p in played]),
                _spread([p.part_back_seconds for p in played]),
                *counts,
                str(sum(p.started_twice for p in played)),
                str(sum(bool(p.failure) for p in played)),
            ]
            rows.append(f"| {' | '.join(cells)} |")
        legend = (
            "Seconds, p50 / p95 / most, from the kill, or from the end of a fault that lasts: until the first commit to"
            " any table; until silver.heart_rate has readings of after it. Noticed and part back: from the beginning."
        )
        return "\n".join([legend, "", *rows]) if self.played else ""

    def _count(self, kind: str, numbers: Sequence[int]) -> str:
        if self.findings is None:
            return "not compared"
        return str(sum(counts[n] for name, counts in self.per_drill.items() if name.startswith(kind) for n in numbers))

    def _tables(self) -> str:
        if self.findings is None:
            return "**The tables were not compared.**"
        found = self.findings
        rows = [
            f"{found.acknowledged} messages acknowledged by Kafka, {found.records} on the topic, {found.repeated} of"
            f" them repetitions, {found.refused} to be refused; acknowledged and not on the topic:"
            f" {len(found.not_on_topic)}.\n",
            "| table | rows expected | rows found | lost | duplicated | wrong |",
            "|---|---|---|---|---|---|",
        ]
        for name, table in found.tables.items():
            counts = (len(table.lost), len(table.duplicated), len(table.wrong))
            rows.append(f"| {name} | {table.expected} | {table.found} | {' | '.join(map(str, counts))} |")
        return "\n".join(rows)

    def _rest(self) -> str:
        lines = [
            f"- Streams at the same time: {len(self.overlaps)} of {self.attempts} attempts; batches committed twice or"
            f" out of order: {self.batches_out_of_order}."
        ]
        lines += [f"  - {overlap}" for overlap in self.overlaps[:10]]
        lines += [f"- {p.drill} ({p.detail}): {p.failure}" for p in self.played if p.failure]
        lines += [
            f"- {name}: {what} after {_median(self.played, name)} s (median), {wanted} wanted"
            for name, (what, wanted) in WANTED.items()
            if _median(self.played, name) is not None
        ]
        lines += [f"- Not run: {name}, because {why}." for name, why in self.not_run.items()]
        lines += ["- Drills: " + "; ".join(f"*{name}*: {DRILLS[name].about}" for name in self._names()) + "."]
        return "\n".join(lines)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(played.drill for played in self.played))


def _median(played: Sequence[Played], name: str) -> float | None:
    """Of the seconds that are asked for: to the first commit, until noticed, until caught up."""
    seconds = [getattr(p, MEASURES[WANTED[name][0]]) for p in played if p.drill == name]
    known = [number for number in seconds if number is not None]
    return round(float(np.median(known)), 1) if known else None


def _spread(seconds: Sequence[float | None]) -> str:
    known = [number for number in seconds if number is not None]
    if not known:
        return ""
    if len(known) == 1:
        return f"{known[0]:.1f}"
    p50, p95 = np.percentile(known, [50, 95])
    return f"{p50:.1f} / {p95:.1f} / {max(known):.1f}"


def machine() -> str:
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GiB"
