import pytest

from include.kafka.topics import Change, Topic, declared, plan

WANTED = Topic("bpm", 6, {"retention.ms": "5", "cleanup.policy": "delete"})


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        pytest.param({}, [Change("create", WANTED)], id="missing"),
        pytest.param({"bpm": Topic("bpm", 6, {**WANTED.settings, "more": "x"})}, [], id="as it should be"),
        pytest.param({"bpm": Topic("bpm", 3, WANTED.settings)}, [Change("grow", WANTED)], id="too few partitions"),
        pytest.param(
            {"bpm": Topic("bpm", 6, {"retention.ms": "1", "cleanup.policy": "delete"})},
            [Change("set", Topic("bpm", 6, {"retention.ms": "5"}))],
            id="another retention",
        ),
        pytest.param({"other": WANTED, "bpm": WANTED}, [], id="others are left alone"),
    ],
)
def test_a_plan_does_what_is_missing_and_nothing_else(found: dict[str, Topic], changes: list[Change]) -> None:
    assert plan([WANTED], found) == changes


def test_fewer_partitions_are_refused() -> None:
    with pytest.raises(ValueError, match="bpm has 12 partitions; 6 cannot be had"):
        plan([WANTED], {"bpm": Topic("bpm", 12, WANTED.settings)})


def test_retention_counts_from_arrival_for_every_topic() -> None:
    topics = {topic.name: topic for topic in declared()}
    assert {name: topic.partitions for name, topic in topics.items()} == {
        "bpm": 6,
        "workout": 3,
        "user_profile": 3,
        "connect-heartbeat.fitness": 1,
    }
    for topic in topics.values():
        assert topic.settings["message.timestamp.type"] == "LogAppendTime"
        assert int(topic.settings["retention.ms"]) >= 24 * 3600 * 1000
