"""Sensors that other DAGs use to wait for fresh data. Both look at what is known already; neither asks a warehouse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from airflow.sdk import Asset, BaseSensorOperator, Context, ObjectStoragePath
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.assets import table
from include.settings import settings
from include.stream import heartbeats
from include.stream.heartbeats import Document
from include.stream.judge import Limits, Observation, behind_seconds, samples


def stream_trouble(beat: heartbeats.Heartbeat | None, why_none: str, now: datetime, within: float) -> str:
    """Why the stream is not healthy within `within` seconds, by its own word; empty when it is."""
    if beat is None:
        return why_none
    age = (now - beat.written_at).total_seconds()
    if age > Limits().silence:
        return f"its last heartbeat is {age:.0f} s old"
    if beat.state != "running":
        return f"it is {beat.state}"
    behind = behind_seconds(samples(Observation(now, (), beat)))
    return f"it is {behind:.0f} s behind" if behind > within else ""


class StreamHealthTrigger(BaseTrigger):
    """Fires when the stream is healthy within the given seconds."""

    def __init__(self, heartbeat: str, within: float, poll_seconds: float) -> None:
        super().__init__()
        self.heartbeat, self.within, self.poll_seconds = heartbeat, within, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"heartbeat": self.heartbeat, "within": self.within, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        document = cast(Document, ObjectStoragePath(self.heartbeat))
        while True:
            beat, why_none = await asyncio.to_thread(heartbeats.read, document)
            trouble = stream_trouble(beat, why_none, datetime.now(UTC), self.within)
            if not trouble:
                yield TriggerEvent({"position": beat.position if beat else None})
                return
            self.log.info("The stream is not healthy: %s.", trouble)
            await asyncio.sleep(self.poll_seconds)


class StreamHealthSensor(BaseSensorOperator):
    """Waits, without a worker's slot, until the heart-rate stream runs and is at most `within` behind the topic."""

    def __init__(self, *, within: timedelta = timedelta(seconds=30), poll_seconds: float = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.within, self.poll_seconds = within.total_seconds(), poll_seconds

    def execute(self, context: Context) -> None:
        heartbeat = settings().stream.heartbeat_for_airflow
        beat, why_none = heartbeats.read(cast(Document, ObjectStoragePath(heartbeat)))
        if not (trouble := stream_trouble(beat, why_none, datetime.now(UTC), self.within)):
            return
        self.log.info("The stream is not healthy: %s.", trouble)
        self.defer(
            trigger=StreamHealthTrigger(heartbeat, self.within, self.poll_seconds),
            method_name="resume",
            timeout=timedelta(seconds=self.timeout),
        )

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        self.log.info("The stream is healthy, at position %s.", event["position"])


class TableFreshnessSensor(BaseSensorOperator):
    """Waits until the job of a batch table (`silver.users`) has succeeded within the last `within`.

    It asks Airflow for the newest event of the table's asset, which each successful job announces. The tables of the
    stream announce nothing, their freshness is the stream's health: use StreamHealthSensor.
    """

    def __init__(self, *, table_name: str, within: timedelta, **kwargs: Any) -> None:
        self.asset: Asset = table(table_name)
        super().__init__(inlets=[self.asset], mode=kwargs.pop("mode", "reschedule"), **kwargs)
        self.within = within

    def poke(self, context: Context) -> bool:
        newest = list(context["inlet_events"][self.asset].ascending(False).limit(1))
        if not newest:
            self.log.info("%s has never been announced.", self.asset.name)
            return False
        age = datetime.now(UTC) - newest[0].timestamp
        self.log.info("%s was refreshed %.0f s ago.", self.asset.name, age.total_seconds())
        return age <= self.within
