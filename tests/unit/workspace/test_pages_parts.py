"""Small parts of the pages: charts, where a login may lead, settings that an update changes."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from local.workspace import charts, jobs_api, pages


def test_hostile_names_do_not_become_html() -> None:
    evil = "<script>alert(1)</script>"
    drawn = charts.stacked_bars(evil, [evil], [("visits", [3.0])], evil)
    drawn += charts.band_chart(evil, [evil], [1.0], [2.0], [3.0], evil)
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


def chart() -> str:
    days = [f"05-{day:02d}" for day in range(1, 31)]
    series = [("completed", [3.0] * 30), ("abandoned", [1.0] * 30)]
    return charts.stacked_bars("Workouts by day", days, series, "workouts")


def test_every_colour_of_a_chart_has_its_name_beside_it() -> None:
    caption = re.search("<figcaption>.*</figcaption>", chart())
    assert caption
    assert re.findall(r'<span class="(\w+)">(\w+)</span>', caption.group()) == [
        ("unit", "workouts"), ("completed", "completed"), ("abandoned", "abandoned"),
    ]  # fmt: skip


def test_no_two_texts_of_a_chart_have_the_same_place() -> None:
    for svg in re.findall("<svg.*?</svg>", chart()):
        places = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"', svg)
        ticks = [float(y) for x, y in places if float(x) < charts.LEFT]
        assert min(b - a for a, b in pairwise(sorted(ticks))) > 15


def test_a_phone_gets_a_chart_of_its_own_with_fewer_texts() -> None:
    wide, narrow = re.findall("<svg.*?</svg>", chart())
    assert (
        f'class="wide" viewBox="0 0 {charts.WIDE} ' in wide
        and f'class="narrow" viewBox="0 0 {charts.NARROW} ' in narrow
    )
    assert narrow.count("<rect") == wide.count("<rect") == 60
    assert narrow.count("<text") < wide.count("<text")


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
