"""The oracle's input from the simulator's ledger: what truly happened, in the order in which the sources heard it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.simulator import facts
from local.simulator.ledger import Batch, Delivery, deliveries, read_batches, runs
from tests.oracle.facts import (
    PROFILE_FIELDS,
    ProfileChange,
    Reading,
    Refusal,
    RegistrationVersion,
    VisitVersion,
    WorkoutEvent,
    World,
)
from tests.oracle.messages import judge_reading, judge_workout


@dataclass
class Truth:
    """A world, and the messages of each topic that must be in quarantine, with the reason."""

    world: World
    refused: dict[str, list[tuple[bytes | None, Refusal]]] = field(default_factory=dict)


def truth(ledger: Path, deleted_at: Mapping[int, Sequence[int]] | None = None) -> Truth:
    """What the ledger of a home holds.

    `deleted_at`: when the source committed the deletions of a member's profile, in their order (microseconds). The
    ledger knows a moment before and one after; without the source's word the middle is taken.
    """
    telling = _Telling({user: list(times) for user, times in (deleted_at or {}).items()})
    for folder in runs(ledger):
        delivered = deliveries(folder)
        for number, batch in read_batches(folder):
            telling.add(batch, delivered.get(number))
    return Truth(telling.world, dict(telling.refused))


class _Telling:
    def __init__(self, deleted_at: Mapping[int, list[int]]) -> None:
        self._deleted_at = deleted_at
        self._position = 0
        self._registrations: list[RegistrationVersion] = []
        self._visits: list[VisitVersion] = []
        self._profile_changes: list[ProfileChange] = []
        self._workout_events: list[WorkoutEvent] = []
        self._readings: list[Reading] = []
        self._last_registration: dict[int, RegistrationVersion] = {}
        self._last_profile: dict[int, facts.Profile] = {}
        self.refused: dict[str, list[tuple[bytes | None, Refusal]]] = defaultdict(list)

    @property
    def world(self) -> World:
        return World(self._registrations, self._visits, self._profile_changes, self._workout_events, self._readings)

    def add(self, batch: Batch, delivery: Delivery | None) -> None:
        for row in batch.rows:
            self._position += 1
            self._add_row(row, delivery)
        for part in batch.readings:
            pairs = zip(part.read_at.tolist(), part.bpm.tolist(), strict=True)
            self._readings += [Reading(part.device_id, read_at, bpm) for read_at, bpm in pairs]
        arrived_at = delivery.ended_at if delivery else 0
        for message in batch.messages:
            if message.topic == "bpm":
                judged: Reading | WorkoutEvent | Refusal = judge_reading(message.value, arrived_at)
            else:
                judged = judge_workout(message.value)
            if isinstance(judged, Reading):
                self._readings.append(judged)
            elif isinstance(judged, WorkoutEvent):
                self._workout_events.append(judged)
            else:
                self.refused[message.topic].append((message.value, judged))

    def _add_row(self, row: facts.RowFact, delivery: Delivery | None) -> None:
        match row:
            case facts.Registration():
                version = RegistrationVersion(
                    row.user_id, row.device_id, row.mac_address, row.registered_at, self._position
                )
                self._last_registration[row.user_id] = version
                self._registrations.append(version)
            case facts.Deregistration():
                if gone := self._last_registration.pop(row.user_id, None):
                    self._registrations.append(
                        RegistrationVersion(
                            row.user_id, gone.device_id, gone.mac_address, gone.registered_at, self._position, True
                        )
                    )
            case facts.Visit():
                self._visits.append(
                    VisitVersion(row.visit_id, row.mac_address, row.gym_id, row.login_at, row.logout_at, self._position)
                )
            case facts.VisitDeletion():
                self._visits.append(VisitVersion(row.visit_id, None, None, None, None, self._position, True))
            case facts.Profile():
                self._profile("u" if row.user_id in self._last_profile else "c", row)
            case facts.ProfileMove():
                if moved := self._last_profile.pop(row.user_id, None):
                    self._delete_profile(row.user_id, delivery)
                    values = {name: getattr(moved, name) for name in PROFILE_FIELDS}
                    self._profile("c", facts.Profile(user_id=row.new_user_id, changed_at=row.changed_at, **values))
            case facts.ProfileDeletion():
                if self._last_profile.pop(row.user_id, None):
                    self._delete_profile(row.user_id, delivery)
            case facts.Workout():
                self._workout_events.append(
                    WorkoutEvent(row.user_id, row.workout_id, row.session_id, row.action, row.occurred_at)
                )

    def _profile(self, op: str, row: facts.Profile) -> None:
        self._last_profile[row.user_id] = row
        values = {name: getattr(row, name) for name in PROFILE_FIELDS}
        self._profile_changes.append(
            ProfileChange((self._position, 0), op, row.user_id, changed_at=row.changed_at, **values)
        )

    def _delete_profile(self, user_id: int, delivery: Delivery | None) -> None:
        told = self._deleted_at.get(user_id)
        if told:
            committed_at = told.pop(0)
            if delivery and not delivery.begun_at <= committed_at <= delivery.ended_at:
                raise ValueError(f"the source says {committed_at} for a deletion between {delivery}")
        elif delivery:
            committed_at = (delivery.begun_at + delivery.ended_at) // 2
        else:
            raise ValueError(f"nobody knows when the profile of {user_id} was deleted")
        self._profile_changes.append(ProfileChange((self._position, 0), "d", user_id, committed_at=committed_at))
