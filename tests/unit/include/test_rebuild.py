"""What may be asked for in a rebuild, and what the job is then told."""

import pytest
from pydantic import ValidationError

from include.rebuild import Extent, Rebuild, asked_of


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        ({"full": True}, ["--full"]),
        ({"keys": ["12", "13"]}, ["--keys=12,13"]),
        ({"keys": ["-7", "49"]}, ["--keys=-7,49"]),
        (
            {"from_date": "2026-01-01", "to_date": "2026-01-31"},
            ["--from-date", "2026-01-01", "--to-date", "2026-01-31"],
        ),
    ],
    ids=["full", "keys", "negative keys", "days"],
)
def test_the_job_is_told_what_was_asked_for(request_, arguments):
    rebuild = Rebuild(job="silver.users", **request_)
    assert rebuild.arguments() == arguments
    assert Rebuild.model_validate(rebuild.conf()["rebuild"]) == rebuild, "it survives the journey as JSON"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({}, "exactly one"),
        ({"full": True, "keys": ["1"]}, "exactly one"),
        ({"from_date": "2026-01-01"}, "both"),
        ({"from_date": "2026-02-01", "to_date": "2026-01-01"}, "after"),
        ({"keys": ["1,2"]}, "comma"),
        ({"keys": [" "]}, "empty"),
        ({"full": True, "job": "silver.nothing"}, "no job 'silver.nothing'"),
        ({"full": True, "job": "ops.migrations"}, "no job 'ops.migrations'"),
        ({"full": True, "job": "bronze.kafka_multiplex"}, "no job 'bronze.kafka_multiplex'"),
        ({"full": True, "job": "quality.lateness"}, "no job 'quality.lateness'"),
        ({"full": True, "layer": "gold"}, "one of them"),
        ({"full": True, "job": None}, "one of them"),
        ({"keys": ["7"], "job": None, "layer": "silver"}, "different keys"),
        ({"full": True, "job": None, "layer": "bronze"}, "'silver' or 'gold'"),
    ],
    ids=[
        *("nothing", "two extents", "half a range", "backwards", "comma", "empty key", "unknown job"),
        *("job of another DAG", "intake of topics", "count of lateness", "job and layer", "neither"),
        *("keys of a layer", "layer that is not computed"),
    ],
)
def test_what_makes_no_sense_is_refused(request_, reason):
    with pytest.raises(ValidationError, match=reason):
        Rebuild.model_validate({"job": "silver.users", **request_})


def test_a_rebuild_runs_in_the_dag_of_its_layer():
    assert Rebuild(job="gold.gym_activity", full=True).dag_id == "gold"


def test_a_layer_is_rebuilt_by_each_of_its_jobs():
    day = {"from_date": "2024-03-01", "to_date": "2024-03-01"}
    rebuild = Rebuild(layer="silver", **day)
    assert rebuild.dag_id == "silver"
    assert rebuild.conf() == {"rebuild": {"layer": "silver", **day}}
    assert rebuild.concerns("silver.users")
    assert Rebuild(job="silver.users", full=True).concerns("silver.users")
    assert not Rebuild(job="silver.users", full=True).concerns("silver.gym_visits")


def test_a_job_is_asked_by_its_layer_or_by_the_parameters_of_its_own_dag():
    own = {"full": True, "keys": [], "from_date": None, "to_date": None, "dry_run": True}
    assert asked_of("silver.heart_rate", own) == Extent(full=True)
    layer = {"rebuild": {"layer": "gold", "full": True}}
    assert asked_of("gold.user_activity", layer) == Rebuild(layer="gold", full=True)
    assert asked_of("gold.user_activity", {"rebuild": {"job": "gold.gym_activity", "full": True}}) is None
    assert asked_of("gold.user_activity", {"rebuild": None}) is None
    assert asked_of("ops.quarantine_replay", {"label": "bpm", "dry_run": True}) is None


def test_a_table_of_the_stream_is_not_rebuilt_in_a_layer():
    with pytest.raises(ValidationError, match="no job 'silver\\.heart_rate'"):
        Rebuild(job="silver.heart_rate", full=True)
