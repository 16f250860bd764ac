"""The dashboard: what the SQL files of include/dashboards say about gold, drawn; asked anew only when someone looks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from local.home import REPO, Home
from local.workspace.charts import band_chart, stacked_bars
from local.workspace.warehouse import SparkUnavailable, Warehouse, close, query

log = logging.getLogger("workspace.dashboard")

FOLDER = REPO / "include" / "dashboards"
Rows = list[dict[str, str | None]]


def numbers(rows: Rows, column: str) -> list[float]:
    return [float(row[column] or 0) for row in rows]


def labels(rows: Rows, column: str) -> list[str]:
    return [row[column] or "–" for row in rows]


def draw_bpm(rows: Rows) -> list[Markup]:
    minutes = [label[11:16] for label in labels(rows, "minute")]
    heart = band_chart(
        "Heart rate by minute",
        minutes,
        numbers(rows, "lowest_bpm"),
        numbers(rows, "average_bpm"),
        numbers(rows, "highest_bpm"),
        "bpm",
    )
    rate = stacked_bars(
        "Readings a second", minutes, [("readings", numbers(rows, "readings_per_second"))], "readings/s"
    )
    return [heart, rate]


def draw_completion(rows: Rows) -> list[Markup]:
    days = [label[5:] for label in labels(rows, "workout_date")]
    series = [(name, numbers(rows, name)) for name in ("completed", "abandoned", "open")]
    return [stacked_bars("Workouts by day", days, series, "workouts")]


def draw_gyms(rows: Rows) -> list[Markup]:
    gyms = [f"gym {label}" for label in labels(rows[:20], "gym_id")]
    return [stacked_bars("Visits by gym", gyms, [("visits", numbers(rows[:20], "visits"))], "visits")]


@dataclass(frozen=True)
class View:
    """One part of the dashboard. `name` is its SQL file, `table` the gold table it stands on."""

    name: str
    title: str
    table: str
    refresh_seconds: int
    draw: Callable[[Rows], list[Markup]] = lambda rows: []


VIEWS = {
    view.name: view
    for view in (
        View("bpm_trends", "Heart rate, live", "gold.bpm_trends", 5, draw_bpm),
        View("workout_completion", "Workout completion", "gold.workout_completion", 30, draw_completion),
        View("workout_completion_by_age", "Workout completion by age", "gold.workout_completion", 30),
        View("gym_activity", "Gym activity", "gold.gym_activity", 30, draw_gyms),
    )
}


@dataclass
class Answer:
    """What a view says now. `updated` is when its table last changed (UTC), None when there is no such table."""

    updated: datetime | None
    columns: list[str] = field(default_factory=list)
    rows: Rows = field(default_factory=list)
    problem: str = ""
    asked: float = 0.0


class Dashboard:
    def __init__(self, home: Home, warehouse: Warehouse) -> None:
        self.home, self.warehouse = home, warehouse
        self.lock = threading.Lock()
        self.session: Any = None
        self.answers: dict[str, Answer] = {}

    def answer(self, view: View) -> Answer:
        """At most one question at a time, and none whose answer is fresh: many watchers cost what one does."""
        with self.lock:
            known = self.answers.get(view.name)
            if known is None or time.monotonic() - known.asked >= view.refresh_seconds - 1:
                known = self._ask(view)
                known.asked = time.monotonic()
                self.answers[view.name] = known
            return known

    def _ask(self, view: View) -> Answer:
        updated = last_commit(self.home, view.table)
        if updated is None:
            return Answer(None)
        known = self.answers.get(view.name)
        if known is not None and known.updated == updated and not known.problem:
            return known
        try:
            if self.session is None:
                self.session = self.warehouse.session()
            table = query(self.session, (FOLDER / f"{view.name}.sql").read_text())
        except SparkUnavailable as error:
            return Answer(updated, problem=str(error))
        except Exception as error:  # a restarted Spark; the next look connects anew
            log.info("Dashboard view %s: %s", view.name, str(error).partition("\n")[0])
            if self.session is not None:
                close(self.session)
                self.session = None
            return Answer(updated, problem=str(error).partition("\n")[0][:300])
        columns = [column.name for column in table.schema.fields]
        return Answer(updated, columns, [dict(zip(columns, row, strict=True)) for row in table.rows])


def last_commit(home: Home, table: str) -> datetime | None:
    """When the newest version of a table was written (UTC); None when the table does not exist."""
    log_folder = home.lake / table.replace(".", "/") / "_delta_log"
    newest = max(log_folder.glob("*.json"), default=None, key=lambda file: file.name)
    return datetime.fromtimestamp(newest.stat().st_mtime, UTC) if newest else None
