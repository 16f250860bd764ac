"""The story of every member, told in the order in which the sources hear of it.

A world is a merge of lives: each member's life is a generator of what arrives, in order of arrival, with a random
stream of its own. So a member's life does not depend on who else there is, and memory holds what is still on its way,
never the history.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from local.simulator.facts import (
    DAY,
    HOUR,
    SECOND,
    Deregistration,
    Fact,
    Message,
    ProfileDeletion,
    Readings,
    Registration,
    Visit,
    VisitDeletion,
    Workout,
)
from local.simulator.heart import exercise
from local.simulator.members import Member, device_id, mac_address, member, user_id
from local.simulator.rubbish import rubbish

Range = tuple[float, float]


@dataclass(frozen=True)
class Pace:
    """How time passes in a member's life. Ranges and times in seconds."""

    login_before_start: Range
    session: Range
    between_sessions: Range
    logout_after_stop: Range
    lateness: Range  # how much later an offline device syncs, a logout becomes known, a correction is made
    between_profile_changes: float  # mean
    worn_around_session: int  # a device also sends this long before a start and after a stop
    sends_every: int  # a device that is online sends what it read since last time
    fate_within: float  # when no end is known: how soon what happens once in a life happens
    between_visits: Range | None = None  # None: days apart, at the hours at which people go to a gym


HISTORY = Pace(
    login_before_start=(120, 900),
    session=(900, 3000),
    between_sessions=(120, 600),
    logout_after_stop=(120, 1500),
    lateness=(3600, 3 * 86400),
    between_profile_changes=45 * 86400,
    worn_around_session=30,
    sends_every=300,
    fate_within=30 * 86400,
)
# A member trains for some minutes, rests for one or two and comes back: somebody who watches sees sessions end.
LIVE = Pace(
    login_before_start=(4, 20),
    session=(90, 420),
    between_sessions=(10, 40),
    logout_after_stop=(4, 30),
    lateness=(60, 600),
    between_profile_changes=3600,
    worn_around_session=3,
    sends_every=1,
    fate_within=6 * 3600,
    between_visits=(30, 180),
)


@dataclass(frozen=True)
class Odds:
    """How often things go another way than they should: chances per session unless said otherwise."""

    abandoned: float = 0.03
    stop_only: float = 0.005
    stop_before_start: float = 0.003
    overlong: float = 0.004
    no_length: float = 0.003
    told_twice: float = 0.02
    told_late: float = 0.03
    stop_told_first: float = 0.02
    started_twice: float = 0.005
    synced_late: float = 0.04
    repeated: float = 0.03
    contradicted: float = 0.01
    without_device: float = 0.03
    rubbish: float = 0.04
    at_home: float = 0.12  # per visit, as all below: a workout without a visit
    logout_missing: float = 0.01
    logout_late: float = 0.04
    logout_moved: float = 0.02
    visit_deleted: float = 0.002
    stranger: float = 0.005
    two_workouts: float = 0.2
    newcomer: float = 0.2  # per member, as all below
    worn_before_registration: float = 0.2  # of newcomers
    profile_late: float = 0.05
    profile_backdated: float = 0.1  # per change of a profile
    replaces_device: float = 0.08
    leaves: float = 0.03
    returns: float = 0.0  # of those who leave
    hands_over: float = 0.06  # per pair of members


@dataclass(frozen=True)
class Known:
    """What an earlier run already told about a member."""

    registration: Registration | None = None
    has_profile: bool = False
    visits: int = 0
    workouts: int = 0


@dataclass(frozen=True)
class Story:
    """`since` and `until` in microseconds; `until` None: without end. `reading_interval` in seconds."""

    seed: int
    members: int
    since: int
    until: int | None
    pace: Pace = HISTORY
    odds: Odds = field(default_factory=Odds)
    reading_interval: float = 1.0
    known: Mapping[int, Known] = field(default_factory=dict)

    @property
    def span(self) -> int:
        """How long the story is, or how long it looks ahead."""
        return int(self.pace.fate_within * SECOND) if self.until is None else self.until - self.since


class Arrival(NamedTuple):
    """The sources hear of `fact` at `arrives_at` (microseconds of the story's time)."""

    arrives_at: int
    fact: Fact


def world(story: Story) -> Iterator[Arrival]:
    """All that arrives, in order of arrival."""
    lives = (Life(story, member(story.seed, index)).arrivals() for index in range(story.members))
    return heapq.merge(*lives, key=lambda arrival: arrival.arrives_at)


@dataclass(frozen=True)
class Handover:
    """The first device of `giver` goes to `receiver` at `moment`."""

    giver: int
    receiver: int
    moment: int
    is_replaced: bool  # the giver has a new device by then


def handover(story: Story, index: int) -> Handover | None:
    """Whether the pair of members to which `index` belongs passes a device on; both lives get the same answer."""
    pair = index // 2
    giver, receiver = user_id(story.seed, 2 * pair), user_id(story.seed, 2 * pair + 1)
    told = [story.known.get(user, Known()).registration for user in (giver, receiver)]
    has_happened = any(r is not None and r.device_id != device_id(r.user_id, 0) for r in told)
    rng = np.random.default_rng([story.seed, pair, 2])
    if rng.random() >= story.odds.hands_over or 2 * pair + 1 >= story.members or has_happened:
        return None
    moment = story.since + int(rng.uniform(0.5, 0.9) * story.span) // SECOND * SECOND
    return Handover(giver, receiver, moment, is_replaced=bool(rng.random() < 0.5))


class Life:
    """One member from `since` on."""

    def __init__(self, story: Story, who: Member) -> None:
        self.story, self.who = story, who
        self.pace, self.odds = story.pace, story.odds
        self.known = story.known.get(who.user_id, Known())
        # A life that goes on after a restart must not repeat itself.
        self.rng = np.random.default_rng([story.seed, who.index, 3, self.known.workouts, self.known.visits])
        self.visits, self.workouts = self.known.visits, self.known.workouts
        self.on_its_way: list[tuple[int, int, Fact]] = []
        self.said = 0
        self.devices: list[tuple[int, int | None]] = []  # (since when, device)
        self.absences: list[tuple[int, int | None]] = []  # without an account
        self.next_profile_change = story.since

    def arrivals(self) -> Iterator[Arrival]:
        first = self._register()
        visit_at = self._next_visit(first, is_first=True)
        while self.story.until is None or visit_at < self.story.until:
            self._change_profile(until=visit_at)
            yield from self._arrived(visit_at)
            if self._is_member(visit_at):
                end = self._visit(visit_at)
            elif self.absences[-1][1] is None:
                break
            else:
                end = visit_at
            visit_at = self._next_visit(end)
        yield from self._arrived(self.story.until)

    def _say(self, arrives_at: int, fact: Fact) -> None:
        heapq.heappush(self.on_its_way, (arrives_at, self.said, fact))
        self.said += 1

    def _arrived(self, until: int | None) -> Iterator[Arrival]:
        while self.on_its_way and (until is None or self.on_its_way[0][0] <= until):
            arrives_at, _, fact = heapq.heappop(self.on_its_way)
            yield Arrival(arrives_at, fact)

    def _happens(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def _between(self, seconds: Range) -> int:
        """A random time of whole seconds, in microseconds."""
        return round(self.rng.uniform(*seconds)) * SECOND

    # Registration, devices, profile

    def _register(self) -> int:
        """Tells of the registration and of what happens to the account; returns from when on the member trains."""
        story, who = self.story, self.who
        begins = story.since
        if self.known.registration:
            told = self.known.registration
            self.devices = [(0, told.device_id)]
        else:
            own = device_id(who.user_id, 0)
            if self._happens(self.odds.newcomer) and story.until is not None:
                registered_at = story.since + int(self.rng.uniform(0.02, 0.4) * story.span) // SECOND * SECOND
                begins = story.since if self._happens(self.odds.worn_before_registration) else registered_at
            else:
                registered_at = story.since - int(self.rng.uniform(1, 700) * DAY) // SECOND * SECOND
            told = Registration(who.user_id, own, mac_address(own), registered_at)
            self.devices = [(0, own)]
            self._say(max(registered_at, story.since), told)
        registered = max(told.registered_at, story.since)
        self._fate(told, registered)

        if self.known.has_profile:
            self.next_profile_change = registered + self._until_profile_change()
        else:
            late = self._between(self.pace.lateness) if self._happens(self.odds.profile_late) else 0
            self._say(registered + late, who.profile(told.registered_at, self.rng))
            self.next_profile_change = registered + late + self._until_profile_change()
        return begins

    def _fate(self, told: Registration, registered: int) -> None:
        """What happens at most once: the device is handed on, received or replaced, or the account is deleted."""
        story, who = self.story, self.who
        own, spare = device_id(who.user_id, 0), device_id(who.user_id, 1)
        passing = handover(story, who.index)
        chance = self.rng.random()
        end = story.since + story.span
        moment = registered + int(self.rng.uniform(0.2, 0.9) * max(end - registered, 0)) // SECOND * SECOND
        if passing:
            moment = passing.moment
            if who.user_id == passing.receiver:
                passed_on = device_id(passing.giver, 0)
                self._wear(passed_on, moment)
            elif passing.is_replaced:
                self._wear(spare, moment - 60 * SECOND)
            else:
                self.devices.append((moment, None))
        elif told.device_id != own:
            return
        elif chance < self.odds.replaces_device:
            self._wear(spare, moment)
        elif chance < self.odds.replaces_device + self.odds.leaves:
            self._say(moment, ProfileDeletion(who.user_id))
            self._say(moment, Deregistration(who.user_id))
            back_at = None
            if self._happens(self.odds.returns):
                back_at = moment + self._between(self.pace.lateness)
                self._say(back_at, replace(told, registered_at=back_at))
                self._say(back_at, who.profile(back_at, self.rng))
            self.absences.append((moment, back_at))

    def _wear(self, device: int, moment: int) -> None:
        self.devices.append((moment, device))
        self._say(moment, Registration(self.who.user_id, device, mac_address(device), moment))

    def _device(self, moment: int) -> int | None:
        return [device for since, device in self.devices if since <= moment][-1]

    def _is_member(self, moment: int) -> bool:
        return not any(gone <= moment and (back is None or moment < back) for gone, back in self.absences)

    def _until_profile_change(self) -> int:
        return round(self.rng.exponential(self.pace.between_profile_changes) * SECOND) + SECOND

    def _change_profile(self, until: int) -> None:
        while self.next_profile_change < until:
            told_at = self.next_profile_change
            if self._is_member(told_at):
                back = self._between(self.pace.lateness) if self._happens(self.odds.profile_backdated) else 0
                self._say(told_at, self.who.profile(told_at - back, self.rng))
            self.next_profile_change = told_at + self._until_profile_change()

    # Visits and workouts

    def _next_visit(self, after: int, is_first: bool = False) -> int:
        """When the next visit, or workout elsewhere, begins."""
        if self.pace.between_visits:
            # Whoever starts the feed should not have to wait for the first who comes.
            rest = (0, self.pace.between_visits[0]) if is_first else self.pace.between_visits
            return after + self._between(rest) + int(self.rng.integers(SECOND))
        days = int(self.rng.integers(0, 3)) if is_first else int(self.rng.geometric(0.4))
        if self.who.is_night_owl:
            hour = self.rng.normal(23.2, 0.4)
        else:
            hour = self.rng.normal((7.0, 12.3, 18.2)[self.rng.choice(3, p=(0.3, 0.15, 0.55))], 1.1)
        visit_at = after - after % DAY + days * DAY + int(np.clip(hour, 4, 23.9) * HOUR)
        return visit_at if visit_at > after else visit_at + DAY

    def _visit(self, login_at: int) -> int:
        """Tells of one visit with its workouts; returns when it ends."""
        at_home = self._happens(self.odds.at_home)
        device = self._device(login_at)
        moment = login_at + self._between(self.pace.login_before_start)
        for workout in range(2 if self._happens(self.odds.two_workouts) else 1):
            moment += self._between(self.pace.between_sessions) if workout else 0
            self.workouts += 1
            for session_id in range(1, int(self.rng.choice(3, p=(0.6, 0.3, 0.1))) + 2):
                moment += self._between(self.pace.between_sessions) if session_id > 1 else 0
                moment = self._session(session_id, moment, device)
        logout_at = moment + self._between(self.pace.logout_after_stop)
        if not at_home and device is not None:
            self._tell_visit(device, login_at, logout_at)
        return logout_at

    def _tell_visit(self, device: int, login_at: int, logout_at: int) -> None:
        self.visits += 1
        gym = self.who.home_gym if self._happens(0.9) else int(self.rng.integers(1, 13))
        address = mac_address(device_id(self.who.user_id, 99) if self._happens(self.odds.stranger) else device)
        visit_id = self.who.user_id * 100_000 + self.visits
        entered = Visit(visit_id, address, gym, login_at, None)
        left = replace(entered, logout_at=logout_at)
        later = logout_at + self._between(self.pace.lateness)
        self._say(login_at, entered)
        if self._happens(self.odds.logout_missing):
            return
        self._say(later if self._happens(self.odds.logout_late) else logout_at, left)
        if self._happens(self.odds.logout_moved):
            moved = logout_at - int((logout_at - login_at) * self.rng.uniform(0, 0.3))
            self._say(later + SECOND, replace(left, logout_at=moved))
        if self._happens(self.odds.visit_deleted):
            self._say(later + 2 * SECOND, VisitDeletion(visit_id))

    def _session(self, session_id: int, start: int, device: int | None) -> int:
        """Tells of one session and its readings; returns when it stops."""
        duration = self._between(self.pace.session)
        if self._happens(self.odds.no_length):
            duration = 0
        elif self._happens(self.odds.overlong):
            duration = 3 * HOUR + self._between((0, 1200))
        stop = start + duration

        what_is_told = [("start", start), ("stop", stop)]
        if self._happens(self.odds.abandoned):
            what_is_told.pop()
        elif self._happens(self.odds.stop_only):
            what_is_told.pop(0)
        elif self._happens(self.odds.stop_before_start):
            what_is_told[1] = ("stop", start - 90 * SECOND)
        if self._happens(self.odds.started_twice):
            what_is_told.append(("start", start + duration // 2))
        is_swapped = self._happens(self.odds.stop_told_first)
        for action, moment in what_is_told:
            told_at = max(start, moment) + int(self.rng.integers(SECOND))
            if self._happens(self.odds.told_late) or (is_swapped and action == "start"):
                told_at = stop + self._between(self.pace.lateness)
            fact = Workout(self.who.user_id, self.workouts, session_id, action, moment)
            for _ in range(2 if self._happens(self.odds.told_twice) else 1):
                self._say(told_at, fact)
        if device is not None and not self._happens(self.odds.without_device):
            self._read(device, start, stop)
        return stop

    def _read(self, device: int, start: int, stop: int) -> None:
        """Tells of what a device reads around a session."""
        margin = self.pace.worn_around_session
        first = start // SECOND - margin
        seconds = np.arange(first, stop // SECOND + margin + 1, self.story.reading_interval)
        # Every tenth device's clock ticks between the seconds.
        phase = 123_456 if device // 100 % 10 == 0 else 0
        read_at = np.round(seconds * SECOND).astype(np.int64) + phase
        duration = max((stop - start) / SECOND, 1.0)
        bpm = exercise(self.who.heart, (read_at - start) / SECOND, duration, self.rng)

        synced_at = stop + self._between(self.pace.lateness) if self._happens(self.odds.synced_late) else 0
        per_message = max(1, round(self.pace.sends_every / self.story.reading_interval))
        sent = 0
        for begin in range(0, read_at.size, per_message):
            end = begin + per_message
            sent = max(int(read_at[begin:end][-1]), synced_at)
            self._say(sent, Readings(device, read_at[begin:end], bpm[begin:end]))

        if self._happens(self.odds.repeated):
            begin = int(self.rng.integers(read_at.size))
            self._say(sent + SECOND, Readings(device, read_at[begin : begin + 600], bpm[begin : begin + 600]))
        if self._happens(self.odds.contradicted):
            one = slice(int(self.rng.integers(read_at.size)), None, read_at.size)
            self._say(sent + 2 * SECOND, Readings(device, read_at[one], np.round(bpm[one] + 1.25, 2)))
        if self._happens(self.odds.rubbish):
            for topic, value in rubbish(self.rng, device, self.who.user_id, int(read_at[-1]) // SECOND):
                key = str(device if topic == "bpm" else self.who.user_id).encode()
                self._say(sent + 3 * SECOND, Message(topic, key, value))
