from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.simulator.facts import (
    DAY,
    HOUR,
    SECOND,
    Deregistration,
    Message,
    Profile,
    ProfileDeletion,
    Readings,
    Registration,
    Visit,
    VisitDeletion,
    Workout,
    microseconds,
)
from local.simulator.members import device_id, mac_address, member, user_id
from local.simulator.world import HISTORY, LIVE, Arrival, Known, Odds, Story, world

MONTH = microseconds(datetime(2024, 2, 1, tzinfo=UTC))
CERTAIN = {f.name: 1.0 for f in fields(Odds)}
NEVER = {f.name: 0.0 for f in fields(Odds)}


def story(members: int = 8, days: int = 10, seed: int = 3, **changes: Any) -> Story:
    plain = Story(seed, members, MONTH, MONTH + days * DAY, reading_interval=15.0)
    return replace(plain, **changes)


def plain(arrivals: Iterable[Arrival]) -> list[Any]:
    """Arrivals as values that can be compared."""
    return [
        (at, fact.device_id, fact.read_at.tolist(), fact.bpm.tolist()) if isinstance(fact, Readings) else (at, fact)
        for at, fact in arrivals
    ]


def test_same_seed_tells_the_same_story() -> None:
    assert plain(world(story())) == plain(world(story()))
    assert plain(world(story())) != plain(world(story(seed=4)))


def test_a_life_does_not_depend_on_how_many_others_there_are() -> None:
    def workouts(members: int) -> list[Any]:
        return [a for a in world(story(members)) if isinstance(a.fact, Workout) and a.fact.user_id == user_id(3, 2)]

    assert workouts(4) == workouts(40) != []


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), members=st.integers(1, 6), days=st.integers(1, 6), all_odd=st.booleans())
def test_any_world_is_sane(seed: int, members: int, days: int, all_odd: bool) -> None:
    odds = Odds(**(dict.fromkeys(CERTAIN, 0.5))) if all_odd else Odds()
    told = list(world(story(members, days, seed, odds=odds)))
    assert all(earlier.arrives_at <= later.arrives_at for earlier, later in pairwise(told))
    members_of_world = {user_id(seed, index) for index in range(members)}
    for arrives_at, fact in told:
        assert MONTH <= arrives_at <= MONTH + days * DAY
        match fact:
            case Registration(user, device, mac, registered_at):
                assert user in members_of_world
                assert mac == mac_address(device)
                assert registered_at <= arrives_at
            case Visit():
                assert fact.login_at <= arrives_at
                assert fact.logout_at is None or fact.login_at <= fact.logout_at <= arrives_at
            case Workout():
                assert fact.user_id in members_of_world
                assert fact.action in ("start", "stop")
                assert fact.occurred_at <= arrives_at + 2 * HOUR  # a clock that runs ahead: "started twice"
            case Readings():
                assert fact.read_at.size == fact.bpm.size > 0
                assert fact.read_at.max() <= arrives_at
                assert ((fact.bpm > 20) & (fact.bpm <= 250)).all()
                assert (np.round(fact.bpm, 2) == fact.bpm).all()


def test_visit_and_workout_numbers_are_used_once() -> None:
    starts = Counter(
        (a.fact.user_id, a.fact.workout_id, a.fact.session_id)
        for a in world(story(odds=Odds(**NEVER)))
        if isinstance(a.fact, Workout) and a.fact.action == "start"
    )
    assert starts and set(starts.values()) == {1}


def test_without_odds_every_session_stops_and_every_visit_ends() -> None:
    told = [arrival.fact for arrival in world(story(odds=Odds(**NEVER), days=12))]
    last_day = MONTH + 11 * DAY
    actions, logouts = defaultdict(list), {}
    for fact in told:
        if isinstance(fact, Workout):
            actions[fact.user_id, fact.workout_id, fact.session_id].append((fact.action, fact.occurred_at))
        elif isinstance(fact, Visit) and fact.login_at < last_day:
            logouts[fact.visit_id] = fact.logout_at
    of_whole_days = {tuple(action for action, _ in told) for told in actions.values() if told[0][1] < last_day}
    assert of_whole_days == {("start", "stop")}
    assert logouts and None not in logouts.values()
    assert not any(isinstance(fact, Message | VisitDeletion | Deregistration | ProfileDeletion) for fact in told)


@pytest.mark.parametrize(
    ("odd", "is_seen"),
    [
        ("abandoned", lambda told: _actions(told, "stop") == 0),
        ("stop_only", lambda told: _actions(told, "start") == 0),
        ("visit_deleted", lambda told: any(isinstance(f, VisitDeletion) for f in told)),
        ("rubbish", lambda told: any(isinstance(f, Message) for f in told)),
        ("without_device", lambda told: not any(isinstance(f, Readings) for f in told)),
        ("at_home", lambda told: not any(isinstance(f, Visit) for f in told)),
        ("logout_missing", lambda told: all(f.logout_at is None for f in told if isinstance(f, Visit))),
        ("stranger", lambda told: _addresses(told).isdisjoint(_registered_addresses(told))),
        ("leaves", lambda told: sum(isinstance(f, Deregistration) for f in told) == 8),
        ("replaces_device", lambda told: sum(isinstance(f, Registration) for f in told) == 16),
        ("told_twice", lambda told: set(Counter(f for f in told if isinstance(f, Workout)).values()) >= {2}),
    ],
)
def test_what_is_certain_happens(odd: str, is_seen: Any) -> None:
    told = [a.fact for a in world(story(odds=Odds(**{**NEVER, odd: 1.0})))]
    assert is_seen(told)


def _actions(told: list[Any], action: str) -> int:
    return sum(isinstance(fact, Workout) and fact.action == action for fact in told)


def _addresses(told: list[Any]) -> set[str]:
    return {fact.mac_address for fact in told if isinstance(fact, Visit)}


def _registered_addresses(told: list[Any]) -> set[str]:
    return {fact.mac_address for fact in told if isinstance(fact, Registration)}


def test_a_device_is_handed_over_with_one_story_for_both() -> None:
    told = [a.fact for a in world(story(2, odds=Odds(**{**NEVER, "hands_over": 1.0})))]
    passed_on = device_id(user_id(3, 0), 0)
    received = [f for f in told if isinstance(f, Registration) and f.device_id == passed_on]
    assert [f.user_id for f in received] == [user_id(3, 0), user_id(3, 1)]
    after = received[1].registered_at
    assert all(
        f.device_id != passed_on or f.registered_at in (received[0].registered_at, after)
        for f in told
        if isinstance(f, Registration)
    )


def test_contradictions_arrive_after_what_they_contradict() -> None:
    first: dict[tuple[int, int], float] = {}
    contradictions = 0
    for _, fact in world(story(odds=Odds(**{**NEVER, "contradicted": 1.0}))):
        if isinstance(fact, Readings):
            for read_at, bpm in zip(fact.read_at.tolist(), fact.bpm.tolist(), strict=True):
                stays = first.setdefault((fact.device_id, read_at), bpm)
                contradictions += stays != bpm
                assert bpm in (stays, round(stays + 1.25, 2))
    assert contradictions


def test_a_long_story_is_told_piece_by_piece() -> None:
    """Only what is on its way is in memory: the first arrivals of a story of a hundred years come at once."""
    endless = story(50, days=36_500)
    first = list(islice(world(endless), 2_000))
    assert first[-1].arrives_at < MONTH + 60 * DAY


def test_live_feed_has_about_as_many_readings_as_promised_and_sessions_end_within_minutes() -> None:
    live = Story(1, 60, MONTH, None, pace=LIVE)
    readings, stops = 0, 0
    for arrives_at, fact in world(live):
        if arrives_at > MONTH + 900 * SECOND:
            break
        if arrives_at > MONTH + 300 * SECOND:
            readings += fact.read_at.size if isinstance(fact, Readings) else 0
            stops += isinstance(fact, Workout) and fact.action == "stop"
    assert 0.6 < readings / 600 / 60 < 1.0
    assert stops > 60


def test_a_life_goes_on_after_a_restart_without_repeating_itself() -> None:
    who = member(1, 0)
    registration = Registration(who.user_id, device_id(who.user_id, 1), mac_address(device_id(who.user_id, 1)), MONTH)
    known = {who.user_id: Known(registration, has_profile=True, visits=7, workouts=9)}
    told = []
    for arrives_at, fact in world(Story(1, 1, MONTH, None, pace=LIVE, known=known)):
        if arrives_at > MONTH + HOUR:
            break
        told.append(fact)
    assert min(f.workout_id for f in told if isinstance(f, Workout)) == 10
    assert min(f.visit_id for f in told if isinstance(f, Visit)) == who.user_id * 100_000 + 8
    assert not any(isinstance(f, Registration) for f in told)
    assert {f.device_id for f in told if isinstance(f, Readings)} == {registration.device_id}


def test_members_are_plausible() -> None:
    everybody = [member(5, index) for index in range(300)]
    assert len({who.user_id for who in everybody}) == 300
    assert any(who.date_of_birth is None for who in everybody)
    ages = [2024 - who.date_of_birth.year for who in everybody if who.date_of_birth]
    assert min(ages) >= 14 and max(ages) <= 92
    assert {who.sex for who in everybody} == {"F", "M"}
    with pytest.raises(ValueError, match="seed"):
        member(1000, 0)


def test_heart_rates_rise_in_a_session_and_fall_after_it() -> None:
    parts = [
        a.fact
        for a in world(story(1, 6, odds=Odds(**NEVER), reading_interval=5.0, pace=replace(HISTORY, sends_every=10**6)))
    ]
    for part in parts:
        if isinstance(part, Readings) and part.bpm.size > 60:
            third = part.bpm.size // 3
            assert part.bpm[third : 2 * third].mean() > part.bpm[:6].mean() + 15
            assert part.bpm[third : 2 * third].mean() > part.bpm[-3:].mean()


def test_profiles_are_whole() -> None:
    profiles = [a.fact for a in world(story(30)) if isinstance(a.fact, Profile)]
    assert len(profiles) >= 25
    assert all(p.first_name and p.zip and p.changed_at for p in profiles)
