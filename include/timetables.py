"""When runs are made, where a cron line does not say it. Registered through `plugins/fitness.py`; DAGs and plugin must
import from this module path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.timetables.trigger import CronTriggerTimetable

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction


class BackfillOnly(CronTriggerTimetable):
    """Makes runs for a backfill, one each tick (the logical date), and none by itself.

    Airflow lets only DAGs with a clock be backfilled, and a backfill leaves out each tick that has a run already: runs
    that the clock made in order to do nothing would take the place of those that somebody wants.
    A backfill asks for ticks with catchup, whatever the DAG says; the scheduler asks as the DAG says, which is without.
    """

    @property
    def summary(self) -> str:
        return "backfills only"

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        if not restriction.catchup:
            return None
        return super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )


DAYS = BackfillOnly("0 0 * * *", timezone="UTC")
