"""Tells a story to the sources: writes each batch down, delivers it, and keeps to the clock."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from local.simulator.facts import (
    SECOND,
    Deregistration,
    Profile,
    ProfileDeletion,
    Registration,
    Visit,
    Workout,
)
from local.simulator.ledger import Batch, Ledger, LedgerInUse, in_doubt, options, read_batches, runs
from local.simulator.sources import Sources, Stopped
from local.simulator.world import Arrival, Known

READINGS_AT_ONCE = 50_000
ROWS_AT_ONCE = 5_000


@dataclass(frozen=True)
class Pause:
    """Before what follows the pipeline must have seen what came before: it overwrites rows of a polled table."""


class Clock:
    """When something that arrives in the story's time is due on the wall; in steps, so that it can be sent together.

    `since`: the story's time now; None: that of the first arrival. `speed`: seconds of the story in a second; None: as
    fast as it goes.
    """

    def __init__(self, since: int | None, speed: float | None, step_seconds: float = 1.0) -> None:
        self._since, self._speed, self._step = since, speed, step_seconds
        self._began = time.monotonic()

    def seconds_until(self, arrives_at: int) -> float:
        if self._speed is None:
            return 0.0
        if self._since is None:
            self._since, self._began = arrives_at, time.monotonic()
        due = (arrives_at - self._since) / SECOND / self._speed
        return math.ceil(due / self._step) * self._step - (time.monotonic() - self._began)


@dataclass
class Told:
    """How far a story has been told."""

    arrives_at: int
    readings: int = 0
    rows: int = 0
    messages: int = 0


def tell(
    story: Iterable[Arrival | Pause],
    ledger: Ledger,
    sources: Sources,
    stop: threading.Event,
    clock: Clock,
    rate: float | None = None,
    on_told: Callable[[Told], None] = lambda told: None,
    on_pause: Callable[[], bool] = lambda: True,
) -> Told:
    """Tells what the ledger does not have yet, to the end or until `stop` is set (raises `Stopped`).

    `rate`: at most so many readings a second. `on_pause` says whether to go on after a pause; if not, the rest stays
    untold. The ledger is marked complete at the story's end.
    """
    telling = _Telling(ledger, sources, stop, rate, on_told)
    for arrival in _after(story, ledger.told):
        if isinstance(arrival, Pause):
            telling.flush()
            if not on_pause():
                return telling.told
            continue
        wait = clock.seconds_until(arrival.arrives_at)
        if wait > 0:
            telling.flush()
            if stop.wait(wait):
                raise Stopped
        telling.add(arrival)
    telling.flush()
    ledger.mark_complete()
    return telling.told


class _Telling:
    def __init__(
        self,
        ledger: Ledger,
        sources: Sources,
        stop: threading.Event,
        rate: float | None,
        on_told: Callable[[Told], None],
    ) -> None:
        self._ledger, self._sources, self._stop, self._rate, self._on_told = ledger, sources, stop, rate, on_told
        self._batch, self._facts = Batch(), ledger.told
        self._began = time.monotonic()
        self.told = Told(0)

    def add(self, arrival: Arrival) -> None:
        self._batch.add(arrival.fact)
        self._facts += 1
        self.told.arrives_at = arrival.arrives_at
        if self._batch.reading_count >= READINGS_AT_ONCE or len(self._batch.rows) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self._stop.is_set():
            raise Stopped
        if not self._batch:
            return
        batch, self._batch = self._batch, Batch()
        number = self._ledger.write(batch, self._facts)
        self._ledger.mark_delivered(self._sources.deliver(self._ledger.run_id, number, batch))
        self.told.readings += batch.reading_count
        self.told.rows += len(batch.rows)
        self.told.messages += len(batch.messages)
        self._on_told(self.told)
        if self._rate:
            ahead = self.told.readings / self._rate - (time.monotonic() - self._began)
            if ahead > 0 and self._stop.wait(ahead):
                raise Stopped


def _after(story: Iterable[Arrival | Pause], facts: int) -> Iterator[Arrival | Pause]:
    """What follows the first so many facts."""
    iterator = iter(story)
    while facts and (arrival := next(iterator, None)) is not None:
        facts -= not isinstance(arrival, Pause)
    yield from iterator


def versions_apart(arrivals: Iterable[Arrival]) -> Iterator[Arrival | Pause]:
    """The same story, but a second version of a registration, or its deletion, comes last, after a pause.

    Registrations are read by row version: of two versions between two extractions the first is never seen, and what the
    member wore before would be unknown. In a history told in seconds, months of the story lie between two extractions.
    """
    registered: set[int] = set()
    held: dict[int, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        fact = arrival.fact
        if isinstance(fact, Registration | Deregistration):
            if fact.user_id in registered:
                held[fact.user_id].append(arrival)
                continue
            registered.add(fact.user_id)
        yield arrival
    rounds = max(map(len, held.values()), default=0)
    for number in range(rounds):
        yield Pause()
        for of_member in held.values():
            yield from islice(of_member, number, number + 1)


def deliver_doubtful(ledger: Ledger, sources: Sources) -> int:
    """Delivers again what an earlier telling of a run may not have delivered; returns how many batches."""
    count = 0
    for number, batch in in_doubt(ledger.folder):
        ledger.mark_delivered(sources.deliver(ledger.run_id, number, batch))
        count += 1
    return count


def settle_doubts(ledger: Path, sources: Sources) -> int:
    """The same for all runs of a home that no other process is telling."""
    count = 0
    for folder in runs(ledger):
        try:
            run = Ledger(folder)
        except LedgerInUse:
            continue
        with run:
            count += deliver_doubtful(run, sources)
    return count


def known(ledger: Path, seed: int) -> dict[int, Known]:
    """What earlier runs told about the members of a seed."""
    registrations: dict[int, Registration] = {}
    profiles: set[int] = set()
    visits: dict[int, int] = defaultdict(int)
    workouts: dict[int, int] = defaultdict(int)
    for folder in runs(ledger):
        if options(folder).get("seed") != seed:
            continue
        for _, batch in read_batches(folder, with_readings=False):
            for row in batch.rows:
                match row:
                    case Registration():
                        registrations[row.user_id] = row
                    case Deregistration():
                        registrations.pop(row.user_id, None)
                    case Profile():
                        profiles.add(row.user_id)
                    case ProfileDeletion():
                        profiles.discard(row.user_id)
                    case Visit():
                        owner = row.visit_id // 100_000
                        visits[owner] = max(visits[owner], row.visit_id % 100_000)
                    case Workout():
                        workouts[row.user_id] = max(workouts[row.user_id], row.workout_id)
    return {
        user: Known(registrations.get(user), user in profiles, visits[user], workouts[user])
        for user in registrations.keys() | profiles | workouts.keys() | visits.keys()
    }
