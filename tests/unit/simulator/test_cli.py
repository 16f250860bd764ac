from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from local.simulator import cli
from local.simulator.__main__ import app
from local.simulator.ledger import Batch, Delivery, is_complete, options, runs


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
