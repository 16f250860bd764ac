"""Small parts of the pages: charts, where a login may lead, settings that an update changes."""

from __future__ import annotations

import pytest

from local.workspace import charts, jobs_api, pages


def test_hostile_names_do_not_become_html() -> None:
    evil = "<script>alert(1)</script>"
    drawn = charts.stacked_bars(evil, [evil], [("visits", [3.0])], evil)
    drawn += charts.band_chart(evil, [evil], [1.0], [2.0], [3.0], evil)
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


@pytest.mark.parametrize(("value", "expected"), [(0, 1), (0.3, 0.5), (1, 1), (7, 10), (135, 200), (2000, 2000)])
def test_an_axis_ends_at_a_round_number(value: float, expected: float) -> None:
    assert charts.ceiling(value) == expected


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "", "/a\r\nb: c"])
def test_a_login_leads_nowhere_else(target: str) -> None:
    assert pages.local_path(target) == "/"


def test_a_login_leads_back() -> None:
    assert pages.local_path("/runs/5?x=1") == "/runs/5?x=1"


def test_an_update_replaces_tasks_by_their_key() -> None:
    settings = {"name": "a", "tasks": [{"task_key": "x", "n": 1}, {"task_key": "y", "n": 1}]}
    changed = jobs_api.updated(settings, {"name": "b", "tasks": [{"task_key": "y", "n": 2}, {"task_key": "z"}]})
    assert changed == {"name": "b", "tasks": [{"task_key": "x", "n": 1}, {"task_key": "y", "n": 2}, {"task_key": "z"}]}


def test_fields_can_be_removed_by_path() -> None:
    settings = {"tags": {"a": 1, "b": 2}, "schedule": {}, "tasks": [{"task_key": "x"}, {"task_key": "y"}]}
    for field in ("schedule", "tags/a", "tasks/x"):
        settings = jobs_api.without(settings, field)
    assert settings == {"tags": {"b": 2}, "tasks": [{"task_key": "y"}]}
