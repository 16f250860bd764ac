"""A small world through the whole stack, every silver and gold table against the ledger's truth, row by row."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from local.home import REPO
from local.services import postgres
from local.simulator.facts import microseconds
from local.simulator.sources import encode
from local.simulator.world import Arrival
from tests.oracle import silver
from tests.oracle.from_ledger import Truth
from tests.system.scenarios import by_hand, in_parts, random_world
from tests.system.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(3000)]

MEMBERS, DAYS, SEED = 14, 6, 77
RECORDING = REPO.parent / "shared" / "data" / "heart_rate_fitbit.parquet"


@pytest.fixture(scope="module")
def told(stack: Stack) -> Truth:
    """The world in parts, all layers run after each: the later parts are late, out of order, or contradict."""
    now = microseconds(datetime.now(UTC).replace(microsecond=0))
    random, cut = random_world(SEED, MEMBERS, DAYS, now)
    random_parts = in_parts(random, cut)
    hand_parts = [[Arrival(0, fact) for fact in part] for part in by_hand(now)]
    for number in range(max(len(random_parts), len(hand_parts))):
        for name, parts in (("history", random_parts), ("scenarios", hand_parts)):
            if number < len(parts):
                stack.tell(parts[number], f"{name}-part{number + 1}")
        stack.wait_for_sources(stack.truth())
        stack.run_layers()
    return stack.truth()


def test_every_silver_and_gold_table_is_as_the_ledger_says(stack: Stack, told: Truth) -> None:
    assert stack.differences_from(told) == ""


def test_what_was_refused_is_in_quarantine_once_with_its_reason(stack: Stack, told: Truth) -> None:
    expected = {
        topic: Counter((value, refusal.reason) for value, refusal in told.refused.get(topic, []))
        for topic in ("bpm", "workout")
    }
    for reading, refusal in silver.heart_rate(told.world.readings).refused:
        [message] = encode(np.array([reading.device_id]), np.array([reading.read_at]), np.array([reading.bpm]))
        expected["bpm"][message.value, refusal.reason] += 1
    assert {topic: stack.refused(topic) for topic in expected} == expected


def test_running_everything_again_changes_nothing(stack: Stack, told: Truth) -> None:
    before = stack.versions()
    stack.run_layers()
    assert stack.versions() == before


def test_the_same_messages_again_change_no_row(stack: Stack, told: Truth) -> None:
    arrived = len(stack.messages("bpm"))
    assert stack.deliver_again()
    assert len(stack.messages("bpm")) > 1.9 * arrived
    stack.wait_for_sources(told)
    stack.run_layers()
    assert stack.differences_from(told) == ""


@pytest.mark.skipif(not RECORDING.exists(), reason=f"{RECORDING} is not there")
def test_replayed_recording_leaves_exactly_its_distinct_readings(stack: Stack, told: Truth) -> None:
    limit = int(os.environ.get("FITNESS_TEST_READINGS", "435315"))
    replayed = pq.read_table(RECORDING).slice(0, limit)
    assert f"{replayed.num_rows:,} readings delivered" in stack.fitness("replay", str(RECORDING), "--limit", str(limit))
    stack.wait_for_sources(stack.truth())
    stack.run_layers()

    devices = set(replayed["device_id"].to_pylist())
    rows = stack.table("silver.heart_rate").to_pyarrow_table(filters=[("device_id", "in", sorted(devices))])
    found = Counter(zip(*(rows[name].to_pylist() for name in ("device_id", "read_at", "bpm")), strict=True))
    columns = (replayed[name].to_pylist() for name in ("device_id", "read_at", "heartrate"))
    assert set(found) == set(zip(*columns, strict=True))
    assert set(found.values()) == {1}
    assert stack.differences_from(stack.truth()) == ""


def test_the_api_of_connect_is_for_those_who_know_its_password(stack: Stack) -> None:
    path = "/connector-plugins/PostgresConnector/config/validate"
    for credentials in (None, ("fitness", "guessed")):
        with httpx.Client(base_url=stack.home.connect_url, auth=credentials, trust_env=False) as stranger:
            assert stranger.get("/health").status_code == 401
            assert stranger.put(path, json={"database.user": "${env:FITNESS_CDC_PASSWORD}"}).status_code == 401


def test_what_the_connector_could_stumble_over_keeps_nothing_after_it_back(stack: Stack) -> None:
    """An action that is no topic's name, and what is no row. Among the last ones, as the next."""
    event = (
        "INSERT INTO app.workout_events (user_id, workout_id, session_id, action, occurred_at) "
        "VALUES (900903, 1, 1, %s, now())"
    )
    actions = ["start\r", "a\nb", "a\u2028b", "", "stop"]
    with postgres.connect(stack.home, "fitness") as sources:
        for action in actions:
            sources.execute(event, (action,))
            sources.execute("SELECT pg_logical_emit_message(true, 'application', 'of no table')")

    def told() -> list[str]:
        messages = [json.loads(value) for value in stack.messages("workout") if value and b":900903," in value[:20]]
        return [message["action"] for message in messages]

    stack.wait_for("all rows on their topic", lambda: len(told()) == len(actions))
    assert told() == actions


def test_a_row_that_no_message_could_hold_is_cut_and_those_after_it_follow(stack: Stack) -> None:
    """Among the last ones: what it writes into the sources is in no ledger."""
    profile = "INSERT INTO app.user_profile (user_id, first_name, city, changed_at) VALUES (%s, %s, %s, now())"
    event = (
        "INSERT INTO app.workout_events (user_id, workout_id, session_id, action, occurred_at) "
        "VALUES (900901, 1, 1, %s, now())"
    )
    with postgres.connect(stack.home, "fitness") as sources:
        sources.execute(profile, (900901, "a" * 3_000_000, "\x01" * 3_000_000))
        sources.execute(profile, (900902, "Ada", "Ghent"))
        for action in ("q" * 2_000_000, "\x01" * 2_000_000, "start"):
            sources.execute(event, (action,))

    ids = {900901, 900902}

    def profiles() -> dict[int, tuple[str, str]]:
        rows = [json.loads(value)["after"] for value in stack.messages("user_profile") if value]
        return {row["user_id"]: (row["first_name"], row["city"]) for row in rows if row and row["user_id"] in ids}

    def workouts() -> list[int]:
        """Their sizes in bytes."""
        return sorted(len(value) for value in stack.messages("workout") if value and b":900901," in value[:20])

    stack.wait_for("all rows on their topics", lambda: len(profiles()) == 2 and len(workouts()) == 3)
    assert profiles() == {900901: ("a" * 100_000, "\x01" * 100_000), 900902: ("Ada", "Ghent")}
    small, whole, cut = workouts()
    assert small < 200
    assert 2_000_000 < whole < 2_000_200
    assert cut == 8_000_000


def test_nothing_else_is_written_into_the_home(stack: Stack) -> None:
    """The working directory does not matter: nothing of this stack is anywhere else."""
    assert not (Path.cwd() / "spark-warehouse").exists()
    assert not (Path.cwd() / "metastore_db").exists()
