"""What the judge says of a stream, case by case: the observation in, one verdict out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.stream.judge import Cure, Desired, Heartbeat, Observation, Run, Sample, State, behind_seconds, judge

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DESIRED = Desired(version="v2")
RUN = Run("17", "RUNNING", NOW - timedelta(hours=1))


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def window(*samples: tuple[float, int, int | None], epoch: int = 5) -> tuple[Sample, ...]:
    """Samples as (seconds ago, position, latest)."""
    return tuple(Sample(ago(seconds), epoch, position, latest) for seconds, position, latest in samples)


BEAT = Heartbeat(
    version="v2",
    run_id="17",
    epoch=5,
    state="running",
    reason="",
    written_at=ago(2),
    batch=40,
    position=1000,
    latest=1000,
    checkpoint_version=1,
    window=window((60, 900, 905), (30, 950, 955), (5, 1000, 1000)),
)
WELL = Observation(NOW, (RUN,), BEAT, end_position=1003)


def seen(beat: dict[str, Any] | None = None, **changes: Any) -> Observation:
    """The healthy observation, changed."""
    return replace(WELL, heartbeat=replace(BEAT, **(beat or {})), **changes)


CASES = [
    pytest.param(WELL, State.HEALTHY, Cure.NOTHING, id="reads_what_comes"),
    pytest.param(
        seen({"window": window((60, 1000, 1000), (5, 1000, 1000))}, end_position=1000),
        State.HEALTHY,
        Cure.NOTHING,
        id="idle_because_nothing_comes",
    ),
    pytest.param(
        seen({"position": 950, "window": window((60, 900, 905), (20, 940, 945), (5, 950, 980))}, end_position=990),
        State.HEALTHY,
        Cure.NOTHING,
        id="behind_by_less_than_the_limit",
    ),
    pytest.param(seen({"batch": None}), State.STARTING, Cure.NOTHING, id="beats_before_its_first_batch"),
    pytest.param(
        seen({"batch": None}, end_position=1000),
        State.HEALTHY,
        Cure.NOTHING,
        id="no_batch_since_nothing_came",
    ),
    pytest.param(seen(active_runs=()), State.STOPPED, Cure.START, id="no_run"),
    pytest.param(
        replace(WELL, active_runs=(), heartbeat=None), State.STOPPED, Cure.START, id="never_started_and_no_heartbeat"
    ),
    pytest.param(
        seen(active_runs=(RUN, Run("18", "RUNNING", ago(5)))), State.DUPLICATED, Cure.RESTART, id="two_active_runs"
    ),
    pytest.param(
        seen({"run_id": "99"}), State.DUPLICATED, Cure.RESTART, id="a_run_beats_that_the_platform_does_not_list"
    ),
    pytest.param(
        seen({"run_id": "16", "written_at": ago(15)}, active_runs=(Run("17", "RUNNING", ago(10)),)),
        State.STARTING,
        Cure.NOTHING,
        id="new_run_after_the_last_beat_of_the_old",
    ),
    pytest.param(
        seen(active_runs=(RUN, Run("16", "TERMINATING", ago(7200)))),
        State.HEALTHY,
        Cure.NOTHING,
        id="the_run_before_is_being_ended",
    ),
    pytest.param(
        seen({"written_at": ago(100)}, active_runs=(Run("17", "TERMINATING", ago(7200)),)),
        State.STOPPED,
        Cure.NOTHING,
        id="its_run_is_being_ended_and_no_other_could_start",
    ),
    pytest.param(
        seen({"written_at": ago(1801)}, active_runs=(Run("17", "TERMINATING", ago(7200)),)),
        State.FAILING,
        Cure.PAGE,
        id="the_platform_cannot_end_it",
    ),
    pytest.param(seen({"version": "v1"}), State.OUTDATED, Cure.ROLL, id="old_version_runs"),
    pytest.param(
        seen({"version": "v1", "checkpoint_version": 3}),
        State.OUTDATED,
        Cure.PAGE,
        id="new_version_cannot_take_the_checkpoint",
    ),
    pytest.param(
        seen({"version": "v1", "checkpoint_version": 3}, active_runs=()),
        State.FAILING,
        Cure.PAGE,
        id="new_version_is_not_even_started_on_a_checkpoint_it_cannot_take",
    ),
    pytest.param(
        seen({"version": "v1", "checkpoint_version": 9, "written_at": ago(60)}),
        State.FAILING,
        Cure.PAGE,
        id="new_version_cannot_take_the_checkpoint_and_the_old_one_is_no_more",
    ),
    pytest.param(
        seen({"progressed_at": ago(-3600)}), State.STALLED, Cure.RESTART, id="clock_was_set_back_and_the_query_waits"
    ),
    pytest.param(
        seen({"progressed_at": ago(120), "position": 400, "window": window((200, 900, 905), (100, 400, 1000))}),
        State.STALLED,
        Cure.RESTART,
        id="position_went_back_and_then_a_batch_hangs",
    ),
    pytest.param(
        replace(WELL, heartbeat=None, active_runs=(Run("17", "RUNNING", ago(60)),)),
        State.STARTING,
        Cure.NOTHING,
        id="first_start_within_grace",
    ),
    pytest.param(
        replace(WELL, heartbeat=None, active_runs=(Run("17", "PENDING", ago(600)),)),
        State.STARTING,
        Cure.NOTHING,
        id="cluster_is_still_being_made",
    ),
    pytest.param(
        replace(WELL, heartbeat=None, active_runs=(Run("17", "PENDING", ago(1801)),)),
        State.FAILING,
        Cure.PAGE,
        id="cluster_cannot_be_made",
    ),
    pytest.param(
        replace(WELL, heartbeat=None, active_runs=(Run("17", "RUNNING", ago(310)),)),
        State.STALLED,
        Cure.RESTART,
        id="started_and_never_beat",
    ),
    pytest.param(
        replace(WELL, heartbeat=None, heartbeat_error="The heartbeat cannot be read: garbage."),
        State.STALLED,
        Cure.RESTART,
        id="heartbeat_stays_unreadable",
    ),
    pytest.param(
        seen({"written_at": ago(30)}, active_runs=(Run("17", "RUNNING", ago(5), attempt=1),)),
        State.STARTING,
        Cure.NOTHING,
        id="the_platform_restarts_a_crashed_driver",
    ),
    pytest.param(
        seen({"written_at": ago(601)}, active_runs=(Run("17", "RUNNING", ago(5), attempt=4),)),
        State.FAILING,
        Cure.PAGE,
        id="attempt_after_attempt_without_a_beat",
    ),
    pytest.param(
        seen({"written_at": ago(200)}, active_runs=(Run("17", "RUNNING", ago(5), attempt=14),), heard_attempt=10),
        State.FAILING,
        Cure.PAGE,
        id="none_of_four_attempts_has_beaten_since_one_did",
    ),
    pytest.param(
        seen({"run_id": "16"}, active_runs=(Run("17", "RUNNING", ago(5), attempt=3),)),
        State.FAILING,
        Cure.PAGE,
        id="none_of_four_attempts_of_a_new_run_has_beaten",
    ),
    pytest.param(
        seen({"written_at": ago(900)}, active_runs=(Run("17", "PENDING", ago(890), attempt=4),), heard_attempt=3),
        State.STARTING,
        Cure.NOTHING,
        id="fifth_crash_in_months_and_the_cluster_is_made_anew",
    ),
    pytest.param(
        seen({"written_at": ago(12)}, active_runs=(Run("17", "RUNNING", ago(8), attempt=9),)),
        State.STARTING,
        Cure.NOTHING,
        id="tenth_crash_in_the_life_of_a_run_that_beat_until_now",
    ),
    pytest.param(seen({"state": "failed", "reason": "boom"}), State.STARTING, Cure.NOTHING, id="crashed_a_moment_ago"),
    pytest.param(
        seen({"state": "failed", "reason": "boom", "crashes": tuple(map(ago, (400, 300, 200, 100)))}),
        State.FAILING,
        Cure.PAGE,
        id="crashes_again_and_again",
    ),
    pytest.param(
        seen(
            {"written_at": ago(20), "crashes": tuple(map(ago, (400, 300, 200, 100)))},
            active_runs=(replace(RUN, started_at=ago(9), attempt=5),),
        ),
        State.FAILING,
        Cure.PAGE,
        id="crashes_again_and_again_and_no_look_meets_it_alive",
    ),
    pytest.param(
        seen(
            {"run_id": "16", "written_at": ago(20), "crashes": tuple(map(ago, (400, 300, 200, 100)))},
            active_runs=(replace(RUN, state="PENDING", started_at=ago(9)),),
        ),
        State.STARTING,
        Cure.NOTHING,
        id="the_run_before_crashed_again_and_again_and_this_one_has_not_begun",
    ),
    pytest.param(
        seen({"state": "paused", "reason": "60% refused"}), State.FAILING, Cure.PAGE, id="paused_by_dead_letter_limit"
    ),
    pytest.param(
        seen({"state": "paused", "reason": "60% refused", "version": "v1"}),
        State.OUTDATED,
        Cure.ROLL,
        id="paused_and_a_new_version_is_the_cure",
    ),
    pytest.param(seen({"written_at": ago(46)}), State.STALLED, Cure.RESTART, id="silent"),
    pytest.param(seen({"written_at": ago(20)}), State.HEALTHY, Cure.NOTHING, id="quiet_but_not_yet_silent"),
    pytest.param(
        seen({"position": 400, "window": window((60, 900, 905), (5, 400, 1000))}),
        State.REWOUND,
        Cure.PAGE,
        id="position_went_back",
    ),
    pytest.param(seen(end_position=10), State.REWOUND, Cure.PAGE, id="topic_was_made_anew"),
    pytest.param(seen({"crashes": tuple(map(ago, (400, 300, 200, 90)))}), State.FAILING, Cure.PAGE, id="crash_loop"),
    pytest.param(
        seen({"crashes": tuple(map(ago, (7000, 700, 610, 200, 90, 20)))}),
        State.HEALTHY,
        Cure.NOTHING,
        id="crashes_of_long_ago_are_no_loop",
    ),
    pytest.param(
        seen({"window": sum((window((s, 1000, 1000), epoch=e) for s, e in ((300, 2), (200, 3), (90, 4), (5, 5))), ())}),
        State.HEALTHY,
        Cure.NOTHING,
        id="stopped_and_started_in_order_many_times",
    ),
    pytest.param(
        seen({"window": window((200, 1000, 1050), (90, 1000, 1100), (5, 1000, 1200))}, end_position=1200),
        State.STALLED,
        Cure.RESTART,
        id="alive_and_not_progressing",
    ),
    pytest.param(
        seen({"progressed_at": ago(76), "window": window((90, 980, 990), (80, 990, 1000))}, end_position=1200),
        State.STALLED,
        Cure.RESTART,
        id="its_batch_hangs_and_it_beats",
    ),
    pytest.param(
        seen(
            {
                "progressed_at": ago(76),
                "window": window((80, 990, 1000)),
                "crashes": tuple(map(ago, (500, 400, 300, 200))),
            },
            end_position=1200,
        ),
        State.STALLED,
        Cure.RESTART,
        id="its_batch_hangs_after_crashes",
    ),
    pytest.param(
        seen({"progressed_at": ago(70), "window": window((90, 980, 990), (80, 990, 1000))}, end_position=1200),
        State.CATCHING_UP,
        Cure.NOTHING,
        id="its_batch_takes_long",
    ),
    pytest.param(
        seen({"progressed_at": ago(110), "window": window((112, 980, 1000))}, end_position=1200, unanswered_at=ago(20)),
        State.CATCHING_UP,
        Cure.NOTHING,
        id="kafka_has_come_back_and_its_batch_takes_its_time",
    ),
    pytest.param(
        seen({"progressed_at": ago(300)}, end_position=1200, unanswered_at=ago(76)),
        State.STALLED,
        Cure.RESTART,
        id="kafka_has_come_back_and_its_batch_hangs",
    ),
    pytest.param(
        seen({"progressed_at": ago(149), "batch": None}, end_position=1200),
        State.STARTING,
        Cure.NOTHING,
        id="its_first_batch_may_take_longer",
    ),
    pytest.param(
        seen({"progressed_at": ago(151), "batch": None}, end_position=1200),
        State.STALLED,
        Cure.RESTART,
        id="its_first_batch_hangs",
    ),
    pytest.param(
        seen({"progressed_at": ago(500), "window": window((502, 1000, 1000))}, end_position=1000),
        State.HEALTHY,
        Cure.NOTHING,
        id="nothing_to_read_and_nothing_said_of_it",
    ),
    pytest.param(
        seen({"progressed_at": ago(181), "window": window((200, 990, 1000), (183, 1000, 1000))}, end_position=None),
        State.STALLED,
        Cure.PAGE,
        id="kafka_is_away_and_a_restart_would_not_help",
    ),
    pytest.param(
        seen({"progressed_at": ago(120), "window": window((200, 990, 1000), (20, 1000, 1000))}, end_position=None),
        State.HEALTHY,
        Cure.NOTHING,
        id="kafka_is_away_for_a_moment",
    ),
    pytest.param(
        seen({"progressed_at": ago(1)}, end_position=None),
        State.HEALTHY,
        Cure.NOTHING,
        id="kafka_does_not_answer_us_and_the_stream_reads_on",
    ),
    pytest.param(
        seen({"window": window((90, 1000, 1000), (40, 1000, 1000), (5, 1000, 1100))}, end_position=1200),
        State.CATCHING_UP,
        Cure.NOTHING,
        id="readings_wait_since_a_moment",
    ),
    pytest.param(
        seen({"position": 0, "window": ()}, end_position=160_995),
        State.CATCHING_UP,
        Cure.NOTHING,
        id="has_only_begun_to_read_what_waited",
    ),
    pytest.param(
        seen(
            {"position": 50_000, "window": window((90, 10_000, 600_000), (45, 30_000, 600_500), (5, 50_000, 601_000))},
            end_position=601_000,
        ),
        State.CATCHING_UP,
        Cure.NOTHING,
        id="a_long_way_behind_and_gaining",
    ),
    pytest.param(
        seen(
            {
                "position": 4_000,
                "window": window((240, 1_000, 1_500), (170, 2_000, 4_000), (90, 3_000, 7_000), (5, 4_000, 10_000)),
            },
            end_position=10_200,
        ),
        State.FAILING,
        Cure.PAGE,
        id="lag_only_grows",
    ),
    pytest.param(
        seen(
            {
                "position": 9_000,
                "window": window((240, 1_000, 1_500), (170, 2_000, 9_000), (90, 3_000, 9_500), (5, 9_000, 10_000)),
            },
            end_position=10_200,
        ),
        State.CATCHING_UP,
        Cure.NOTHING,
        id="lag_grew_and_shrinks_again",
    ),
    pytest.param(
        seen(
            {
                "position": 2_000,
                "window": window((190, 800, 1_000), (180, 1_000, 1_200), (140, 1_200, 1_401), (60, 1_401, 1_603)),
            },
            end_position=10_000,
        ),
        State.CATCHING_UP,
        Cure.NOTHING,
        id="batches_grew_a_little_and_then_it_was_away_for_a_while",
    ),
]


@pytest.mark.parametrize(("observation", "state", "cure"), CASES)
def test_verdict(observation: Observation, state: State, cure: Cure) -> None:
    verdict = judge(DESIRED, observation)
    assert (verdict.state, verdict.cure) == (state, cure), verdict.reason
    assert verdict.reason


def test_every_verdict_has_a_case() -> None:
    assert {case.values[1] for case in CASES} == set(State)


def test_a_wanted_stop_is_no_trouble_whether_or_not_it_has_happened_yet() -> None:
    wanted = replace(DESIRED, running=False)
    for runs, cure in (((), Cure.NOTHING), ((RUN,), Cure.STOP), ((RUN, replace(RUN, run_id="18")), Cure.STOP)):
        verdict = judge(wanted, seen(active_runs=runs))
        assert (verdict.state, verdict.cure) == (State.STOPPED, cure)


def test_a_verdict_without_kafka_says_so() -> None:
    assert "Kafka does not answer" in judge(DESIRED, seen(end_position=None)).reason


def test_behind_seconds_is_the_age_of_the_newest_moment_when_all_had_been_read() -> None:
    assert behind_seconds(window((60, 0, 10), (40, 5, 20), (20, 8, 30), (0, 20, 40))) == 40
    assert behind_seconds(window((60, 10, 10), (0, 10, 10))) == 0
    assert behind_seconds(window((60, 0, 100), (0, 50, 200))) == float("inf")
    assert behind_seconds(()) == 0
