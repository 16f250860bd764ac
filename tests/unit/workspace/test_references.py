"""Dynamic value references."""

from __future__ import annotations

import pytest

from local.workspace import references


def test_references_are_replaced_and_other_braces_stay() -> None:
    values = {"job.run_id": "7", "task.run_id": "8", "job.parameters.day": "{{job.run_id}}"}
    assert references.substitute("{{job.run_id}}-{{ task.run_id }}", values) == "7-8"
    assert references.substitute("{{run_id}} of {{parent_run_id}}", values) == "8 of 7"
    assert references.substitute("{{ ds }} {x}", values) == "{{ ds }} {x}"
    assert references.substitute("{{job.parameters.day}}", values) == "{{job.run_id}}"


def test_the_start_time_is_utc() -> None:
    values = references.start_time_values(1_700_000_000_123)
    assert values["job.start_time.iso_datetime"] == "2023-11-14T22:13:20"
    assert values["job.start_time.iso_date"] == "2023-11-14"
    assert values["job.start_time.iso_weekday"] == "2"
    assert values["job.start_time.timestamp_ms"] == "1700000000123"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{{job.id}} {{job.run_id}} {{task.execution_count}} {{job.start_time.iso_datetime}}", False),
        ("{{tasks.a.run_id}} {{tasks.a.result_state}} {{job.parameters.day}}", False),
        ("{{ ds }} {{anything}}", False),
        ("{{job.nothing}}", True),
        ("{{tasks.z.run_id}}", True),
        ("{{tasks.a.values.x}}", True),
        ("{{job.parameters.nope}}", True),
    ],
)
def test_a_reference_to_nothing_is_named(text: str, wrong: bool) -> None:
    assert (references.complaint(text, {"a"}, {"day"}) is not None) == wrong
