"""All silver and gold tables of a world, as rows with the tables' own column names."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.oracle import gold, silver
from tests.oracle.facts import PROFILE_FIELDS, ProfileChange, World, instant

Row = dict[str, Any]

# The columns that make a row of each table unique.
SESSION = ("user_id", "workout_id", "session_id")
KEYS: dict[str, tuple[str, ...]] = {
    "silver.users": ("user_id",),
    "silver.user_devices": ("user_id", "device_id", "mac_address", "valid_from"),
    "silver.user_profile": ("user_id",),
    "silver.user_profile_history": ("user_id", "valid_from"),
    "silver.gym_visits": ("visit_id",),
    "silver.workout_events": (*SESSION, "action", "occurred_at"),
    "silver.workout_sessions": SESSION,
    "silver.heart_rate": ("device_id", "read_at"),
    "silver.workout_heart_rate": (*SESSION, "read_at"),
    "gold.bpm_trends": ("device_id", "minute"),
    "gold.workout_summary": SESSION,
    "gold.workout_completion": ("workout_date", "gym_id", "age_band"),
    "gold.gym_activity": ("activity_date", "gym_id", "user_id", "mac_address"),
    "gold.user_activity": ("user_id", "activity_date"),
}


def expected_tables(world: World, now: int) -> dict[str, list[Row]]:
    """Rows of every silver and gold table when the clock says `now` (microseconds)."""
    worn = silver.wearings(world.registrations)
    profiles = silver.profiles(world.profile_changes)
    visits = silver.visits(world.visits, worn)
    events = set(world.workout_events)
    sessions = silver.sessions(events, now)
    readings = silver.heart_rate(world.readings).accepted
    session_readings = silver.session_readings(sessions, worn, readings)
    finder = gold.VisitFinder(visits)

    return {
        "silver.users": [
            {"user_id": user_id, "registered_at": instant(registered_at)}
            for user_id, registered_at in silver.users(world.registrations).items()
        ],
        "silver.user_devices": [
            {
                "user_id": period.user_id,
                "device_id": period.device_id,
                "mac_address": period.mac_address,
                "valid_from": instant(period.valid_from),
                "valid_to": _instant(period.valid_to),
            }
            for period in worn
        ],
        "silver.user_profile": [
            {"user_id": user_id, **_profile(change), "changed_at": _instant(change.changed_at)}
            for user_id, change in profiles.items()
        ],
        "silver.user_profile_history": [
            {
                "user_id": period.change.user_id,
                **_profile(period.change),
                "changed_at": _instant(period.change.changed_at),
                "valid_from": instant(period.valid_from),
                "valid_to": _instant(period.valid_to),
                "is_current": period.valid_to is None,
            }
            for period in silver.profile_history(world.profile_changes)
        ],
        "silver.gym_visits": [
            {
                **visit._asdict(),
                "login_at": instant(visit.login_at),
                "logout_at": _instant(visit.logout_at),
            }
            for visit in visits
        ],
        "silver.workout_events": [{**event._asdict(), "occurred_at": instant(event.occurred_at)} for event in events],
        "silver.workout_sessions": [
            {**session._asdict(), "started_at": _instant(session.started_at), "ended_at": _instant(session.ended_at)}
            for session in sessions
        ],
        "silver.heart_rate": [
            {"device_id": device_id, "read_at": instant(read_at), "bpm": bpm}
            for device_id, values in readings.items()
            for read_at, bpm in values.items()
        ],
        "silver.workout_heart_rate": [
            {**reading._asdict(), "read_at": instant(reading.read_at)} for reading in session_readings
        ],
        "gold.bpm_trends": [
            {
                "device_id": trend.device_id,
                "minute": instant(trend.minute),
                **_bpm(trend.bpm),
            }
            for trend in gold.bpm_trends(readings)
        ],
        "gold.workout_summary": [
            {
                "user_id": row.session.user_id,
                "workout_id": row.session.workout_id,
                "session_id": row.session.session_id,
                "started_at": _instant(row.session.started_at),
                "ended_at": _instant(row.session.ended_at),
                "minutes_exercising": row.minutes_exercising,
                **_bpm(row.bpm),
                "gym_id": row.gym_id,
                "age_band": row.age_band,
                "gender": row.profile.gender if row.profile else None,
                "city": row.profile.city if row.profile else None,
                "state": row.profile.state if row.profile else None,
            }
            for row in gold.workout_summary(sessions, session_readings, finder, profiles)
        ],
        "gold.workout_completion": [
            {
                "workout_date": day,
                "gym_id": gym_id,
                "age_band": band,
                "started": count.total(),
                "completed": count["completed"],
                "abandoned": count["abandoned"],
                "open": count["open"],
                "completion_rate": count["completed"] / count.total(),
            }
            for (day, gym_id, band), count in gold.workout_completion(sessions, finder, profiles).items()
        ],
        "gold.gym_activity": [
            {"activity_date": day, "gym_id": gym_id, "user_id": user_id, "mac_address": mac, **row._asdict()}
            for (day, gym_id, user_id, mac), row in gold.gym_activity(visits, sessions, finder).items()
        ],
        "gold.user_activity": [
            {
                "user_id": user_id,
                "activity_date": day,
                "visits": row.visits,
                "sessions": row.sessions,
                "minutes_exercising": row.minutes_exercising,
                **{f"minutes_zone_{zone}": share for zone, share in enumerate(row.minutes_in_zone, start=1)},
                "avg_bpm": row.bpm.average,
                "max_bpm": row.bpm.highest,
                "streak_days": row.streak_days,
            }
            for (user_id, day), row in gold.user_activity(visits, sessions, session_readings, profiles).items()
        ],
    }


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else instant(microseconds)


def _profile(change: ProfileChange) -> Row:
    return {name: getattr(change, name) for name in PROFILE_FIELDS}


def _bpm(values: gold.Statistics) -> Row:
    return {"min_bpm": values.lowest, "avg_bpm": values.average, "max_bpm": values.highest, "readings": values.readings}
