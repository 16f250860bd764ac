from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from local.simulator import cli
from local.simulator.__main__ import app
from local.simulator.facts import Message
from local.simulator.ledger import Batch, Delivery, Ledger, is_complete, options, run_id, runs


class Heard:
    """Stands for both sources: takes everything."""

    batches = 0

    def __init__(self, home: object, stop: threading.Event, say: Callable[[str], None]) -> None: ...

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *_: object) -> None: ...

    def deliver(self, run_id: str, number: int, batch: Batch) -> Delivery:
        Heard.batches += 1
        return Delivery(number, 1, 2)

    def newest_registration(self, first_user: int, last_user: int) -> int | None:
        return None


@pytest.fixture
def fitness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("FITNESS_HOME", str(tmp_path))
    monkeypatch.setenv("FITNESS_PORT_BASE", "23000")
    monkeypatch.setattr(cli, "Sources", Heard)
    monkeypatch.setattr(cli, "_listens", lambda home, part: True)
    monkeypatch.setattr(Heard, "batches", 0)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


STORY = ("simulate", "--members", "4", "--days", "3", "--end-date", "2024-02-03", "--seed", "9")


def test_a_history_is_told_once(fitness: Callable[..., Result], tmp_path: Path) -> None:
    first = fitness(*STORY)
    assert first.exit_code == 0, first.output
    assert "readings" in first.output
    [run] = runs(tmp_path / "ledger")
    assert is_complete(run)
    assert options(run)["since"] == 1_706_745_600_000_000  # 1 to 3 February

    batches = Heard.batches
    again = fitness(*STORY)
    assert again.exit_code == 0
    assert "nothing to do" in again.output
    assert Heard.batches == batches > 0


@pytest.mark.parametrize(("patience", "told"), [("0.01", True), ("0", False)], ids=["waited", "did not wait"])
def test_who_waited_in_vain_is_told_what_is_missing_and_who_did_not_want_to_wait_is_not(
    patience: str, told: bool, fitness: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heard, "newest_registration", lambda *_: 5)  # which nothing has extracted
    result = fitness(*STORY, "--members", "40", "--wait-for-extraction", patience)
    assert result.exit_code == 0
    assert not is_complete(runs(tmp_path / "ledger")[0])
    assert ("Give the same command again" in result.output) is told


def test_a_seed_tells_one_history_only(fitness: Callable[..., Result]) -> None:
    fitness(*STORY)
    other = fitness(*STORY, "--days", "4")
    assert other.exit_code == 2
    assert "Choose another --seed" in other.output
    assert fitness("live", "--seed", "9").exit_code == 2


def test_a_seed_that_feeds_the_sources_live_tells_no_history(fitness: Callable[..., Result], tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger" / run_id("live", 9), {"mode": "live", "seed": 9}).close()
    result = fitness(*STORY)
    assert (result.exit_code, len(runs(tmp_path / "ledger"))) == (2, 1)
    assert "feeds the sources live" in result.output


def test_two_who_tell_the_same_history_are_told_so(fitness: Callable[..., Result], tmp_path: Path) -> None:
    fitness(*STORY, "--wait-for-extraction", "0")
    [run] = runs(tmp_path / "ledger")
    (run / "complete").unlink()
    with Ledger(run):
        result = fitness(*STORY)
    assert result.exit_code == 2
    assert "is written by another simulator" in result.output


def test_what_an_earlier_run_may_not_have_delivered_comes_before_a_recording(
    fitness: Callable[..., Result], tmp_path: Path
) -> None:
    with Ledger(tmp_path / "ledger" / run_id("replay", 0), {"mode": "replay"}) as ledger:
        ledger.write(Batch(messages=[Message("bpm", b"7", b"in doubt")]))
    pq.write_table(
        pa.table(
            {
                "device_id": [7],
                "read_at": pa.array([1_700_000_000_000_000], pa.timestamp("us", tz="UTC")),
                "heartrate": [60.0],
            }
        ),
        tmp_path / "one.parquet",
    )
    result = fitness("replay", str(tmp_path / "one.parquet"))
    assert result.exit_code == 0, result.output
    assert "delivered 1 batches again" in result.output
    assert Heard.batches == 2


@pytest.mark.parametrize("arguments", [("--days", "inf"), ("--days", "9500"), ("--end-date", "0001-01-01")])
def test_a_history_of_before_there_were_readings_is_refused_and_takes_no_seed(
    fitness: Callable[..., Result], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = fitness("simulate", *arguments)
    assert result.exit_code == 2
    assert not runs(tmp_path / "ledger")


def test_more_members_than_a_seed_has_are_refused(fitness: Callable[..., Result]) -> None:
    result = fitness("live", "--rate", "8001", "--speed", "0.01")
    assert result.exit_code == 2
    assert "a seed has 1,000,000" in result.output


@pytest.mark.parametrize(
    ("end_date", "sentence"), [("tomorrow", "must be a day like"), ("2999-01-01", "in the future")]
)
def test_an_impossible_end_is_said(fitness: Callable[..., Result], end_date: str, sentence: str) -> None:
    result = fitness("simulate", "--end-date", end_date)
    assert result.exit_code == 2
    assert sentence in result.output


def test_without_a_stack_the_command_says_what_to_do(
    fitness: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_listens", lambda home, part: part != "kafka")
    result = fitness(*STORY)
    assert result.exit_code == 2
    assert "port 23092" in result.output
    assert "./fitness up" in result.output


def test_a_missing_recording_is_said(fitness: Callable[..., Result]) -> None:
    result = fitness("replay", "/nowhere.parquet")
    assert result.exit_code == 2
    assert "there is no file /nowhere.parquet" in result.output
