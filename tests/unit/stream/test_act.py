"""What is done about a verdict: the budget, its pauses, one page an incident."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.stream.act import Budget, Decision, Memory, decide
from include.stream.judge import Cure, State, Verdict

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BUDGET = Budget(pauses=(0, 60, 120, 1800), well=600)
STOPPED = Verdict(State.STOPPED, "No run is active.", Cure.START)
HEALTHY = Verdict(State.HEALTHY, "Batch 4, lag 0.")
PAUSED = Verdict(State.FAILING, "The stream paused itself.", Cure.PAGE)


def minutes_of(verdict: Verdict, minutes: int, memory: Memory, start: datetime = NOW) -> list[Decision]:
    """One decision a minute on the same verdict."""
    decisions = []
    for minute in range(minutes):
        decisions.append(decide(verdict, memory, start + timedelta(minutes=minute), BUDGET))
        memory = decisions[-1].memory
    return decisions


def test_the_first_start_is_at_once_and_pages_nobody() -> None:
    decision = decide(STOPPED, Memory(), NOW, BUDGET)
    assert (decision.action, decision.page) == (Cure.START, "")


def test_pauses_between_starts_grow() -> None:
    decisions = minutes_of(STOPPED, 12, Memory())
    started = [minute for minute, decision in enumerate(decisions) if decision.action is Cure.START]
    assert started == [0, 1, 3]


def test_a_spent_budget_pages_once_and_tries_on_at_long_intervals() -> None:
    decisions = minutes_of(STOPPED, 60, Memory())
    pages = [minute for minute, decision in enumerate(decisions) if decision.page]
    started = [minute for minute, decision in enumerate(decisions) if decision.action is Cure.START]
    assert pages == [4]
    assert "3 starts" in decisions[4].page
    assert STOPPED.reason in decisions[4].page
    assert started == [0, 1, 3, 33]


def test_what_is_never_well_is_not_started_more_often_once_its_first_starts_are_long_ago() -> None:
    decisions = minutes_of(STOPPED, 240, Memory())
    started = [minute for minute, decision in enumerate(decisions) if decision.action is Cure.START]
    assert started == [0, 1, 3, 33, 63, 93, 123, 153, 183, 213]
    assert [minute for minute, decision in enumerate(decisions) if decision.page] == [4]


def test_a_wanted_stop_costs_no_start() -> None:
    spent = minutes_of(STOPPED, 10, Memory())[-1].memory
    decision = decide(
        Verdict(State.STOPPED, "A stop is wanted.", Cure.STOP), spent, NOW + timedelta(minutes=10), BUDGET
    )
    assert (decision.action, decision.page, decision.memory.starts) == (Cure.STOP, "", spent.starts)


def test_what_no_restart_mends_is_paged_once_and_not_acted_on() -> None:
    decisions = minutes_of(PAUSED, 10, Memory())
    assert [bool(decision.page) for decision in decisions] == [True] + 9 * [False]
    assert {decision.action for decision in decisions} == {Cure.NOTHING}


def test_a_trouble_that_changes_its_look_is_the_same_incident() -> None:
    memory = minutes_of(PAUSED, 2, Memory())[-1].memory
    assert decide(replace(PAUSED, state=State.REWOUND), memory, NOW, BUDGET).page == ""


def test_a_stream_that_goes_down_while_a_refused_version_waits_is_paged_again() -> None:
    refused = Verdict(State.OUTDATED, "Version v2 is not deployed.", Cure.PAGE)
    down = Verdict(State.FAILING, "The stream is down. Version v2 is not deployed.", Cure.PAGE)
    memory = minutes_of(refused, 3, Memory())[-1].memory
    assert [bool(decision.page) for decision in minutes_of(down, 3, memory)] == [True, False, False]


def test_a_clock_that_was_set_back_does_not_put_a_start_off_for_longer_than_its_pause() -> None:
    memory = minutes_of(STOPPED, 2, Memory())[-1].memory
    decisions = minutes_of(STOPPED, 4, memory, NOW - timedelta(hours=1))
    assert [decision.action for decision in decisions] == [Cure.NOTHING, Cure.NOTHING, Cure.START, Cure.NOTHING]


def test_a_moment_of_health_does_not_close_the_incident_and_ten_minutes_do() -> None:
    spent = minutes_of(STOPPED, 10, Memory())[-1].memory
    flapping = minutes_of(HEALTHY, 3, spent, NOW + timedelta(minutes=10))[-1].memory
    assert flapping.paged
    assert flapping.starts
    again = decide(STOPPED, flapping, NOW + timedelta(minutes=13), BUDGET)
    assert (again.action, again.page) == (Cure.NOTHING, "")
    well = minutes_of(HEALTHY, 11, spent, NOW + timedelta(minutes=10))[-1].memory
    assert (well.paged, well.starts) == ("", ())


@pytest.mark.parametrize("state", [State.HEALTHY, State.STARTING, State.CATCHING_UP])
def test_nothing_is_done_while_it_is_well_or_on_its_way(state: State) -> None:
    decision = decide(Verdict(state, "fine"), Memory(), NOW, BUDGET)
    assert (decision.action, decision.page) == (Cure.NOTHING, "")


def test_memory_survives_its_document() -> None:
    memory = minutes_of(STOPPED, 6, Memory(taken_over_at=NOW))[-1].memory
    assert Memory.from_json(memory.to_json()) == memory
    assert Memory.from_json(memory.to_json()).changes == memory.changes


def test_changes_of_state_and_deeds_are_recorded_and_repetitions_are_not() -> None:
    memory = minutes_of(STOPPED, 3, Memory())[-1].memory
    memory = minutes_of(HEALTHY, 3, memory)[-1].memory
    recorded = [(change["state"], change["done"]) for change in memory.changes]
    assert recorded == [("stopped", "start"), ("stopped", "start"), ("healthy", "nothing")]
