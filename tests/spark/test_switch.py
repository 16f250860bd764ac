"""Tables of the stream are rebuilt: found beside it, put in place while it rests, with what has come meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from spark_jobs.gold import bpm_trends
from spark_jobs.switch import NotAlone, NotAsked, TooLate
from tests.oracle.facts import SECOND, instant
from tests.spark.healthy import begins, reading, stream
from tests.spark.pipeline import Pipeline

SILVER, GOLD = "silver.heart_rate", "gold.bpm_trends"
MEMBERS = range(1, 9)  # member m wears device 100 + m, on day 1 + m of January 2024
LOST, DOUBLED, CHANGED, INVENTED = "lost", "doubled", "changed", "invented"


def at(member: int, second: int = 1) -> str:
    return f"TIMESTAMP'{instant(begins(member) + second * SECOND).isoformat()}'"


def plant(lake: Pipeline, table: str, defects: dict[int, str]) -> None:
    """Of each member named, in its first reading or minute."""
    time, value = {SILVER: ("read_at", "bpm"), GOLD: ("minute", "max_bpm")}[table]
    name = f"spark_catalog.{table}"
    for member, defect in defects.items():
        row = f"device_id = {100 + member} AND {time} <= {at(member)}"
        moved = f"* EXCEPT ({time}), {time} + INTERVAL 30 MINUTES AS {time}"
        statement = {
            LOST: f"DELETE FROM {name} WHERE {row}",
            DOUBLED: f"INSERT INTO {name} SELECT * FROM {name} WHERE {row}",
            CHANGED: f"UPDATE {name} SET {value} = 200 WHERE {row}",
            INVENTED: f"INSERT INTO {name} BY NAME SELECT {moved} FROM {name} WHERE {row}",
        }[defect]
        lake.spark.sql(statement).collect()


def run(lake: Pipeline, phase: str, *extent: str, rebuild: str = "r1") -> dict[str, int]:
    """Both tables; how many keys differed, or how many rows were replaced."""
    for table in (SILVER, GOLD):
        lake.run(table, "--phase", phase, "--rebuild", rebuild, "--patience-seconds", "0", *extent)
    said = {table: lake.outcome(table) for table in (SILVER, GOLD)}
    of = "ops.rebuild_differences" if phase == "prepare" else None
    return {table: dict(said[table]["rows_out"]).get(of or table, 0) for table in said}


def rebuild(lake: Pipeline, *extent: str) -> dict[str, int]:
    run(lake, "prepare", *extent)
    return run(lake, "switch", *extent)


def found(lake: Pipeline, members: range | tuple[int, ...] = MEMBERS) -> dict[str, list[tuple[Any, ...]]]:
    devices = {100 + member for member in members}
    return {
        table: sorted(tuple(row.values()) for row in lake.rows(table) if row["device_id"] in devices)
        for table in (SILVER, GOLD)
    }


@pytest.fixture
def lake(pipeline: Pipeline) -> Pipeline:
    """Each member has five readings in two minutes, one of them said again otherwise; one record is none."""
    said = [reading(m, second, 60.5 + second) for m in MEMBERS for second in (1, 2, 3, 60, 61)]
    stream(pipeline, said, 0)
    stream(pipeline, [said[0], reading(2, 1, 99), b"no reading"], 1)
    return pipeline


def test_what_is_lost_doubled_changed_or_invented_is_mended_where_it_was_asked_for(lake: Pipeline) -> None:
    truth = found(lake)
    assert [len(rows) for rows in truth.values()] == [40, 16]
    kinds = (LOST, DOUBLED, CHANGED, INVENTED)
    plant(lake, SILVER, dict(zip((1, 2, 3, 4), kinds, strict=True)))
    plant(lake, GOLD, dict(zip((5, 6, 7, 8), kinds, strict=True)))
    planted = found(lake)

    rebuild(lake, "--keys", "101,102,105,106")
    mended, rest = (1, 2, 5, 6), (3, 4, 7, 8)
    assert found(lake, mended) == {table: found_in(rows, mended) for table, rows in truth.items()}
    assert found(lake, rest) == {table: found_in(rows, rest) for table, rows in planted.items()}

    rebuild(lake, "--from-date", "2024-01-04", "--to-date", "2024-01-04")
    mended, rest = (3,), (4, 7, 8)
    assert found(lake, mended) == {table: found_in(rows, mended) for table, rows in truth.items()}
    assert found(lake, rest) == {table: found_in(rows, rest) for table, rows in planted.items()}

    assert rebuild(lake, "--full") == {SILVER: 1, GOLD: 2}
    assert found(lake) == truth


def found_in(rows: list[tuple[Any, ...]], members: tuple[int, ...]) -> list[tuple[Any, ...]]:
    return [row for row in rows if row[0] - 100 in members]


def test_repeating_a_phase_changes_nothing(lake: Pipeline) -> None:
    truth = found(lake)
    plant(lake, SILVER, {1: LOST, 2: DOUBLED})
    plant(lake, GOLD, {5: DOUBLED})
    first = run(lake, "prepare", "--full")
    assert first == run(lake, "prepare", "--full") == {SILVER: 2, GOLD: 3}
    lake.run(SILVER, "--phase", "switch", "--rebuild", "r1", "--full")
    run(lake, "switch", "--full")
    assert found(lake) == truth
    versions = lake.versions()
    assert run(lake, "switch", "--full") == {SILVER: 0, GOLD: 0}
    assert run(lake, "prepare", "--full") == {SILVER: 0, GOLD: 0}
    assert run(lake, "switch", "--full") == {SILVER: 0, GOLD: 0}
    assert lake.versions() == versions


def test_a_healthy_table_is_left_alone(lake: Pipeline) -> None:
    versions = lake.versions()
    assert run(lake, "prepare", "--full") == {SILVER: 0, GOLD: 0}
    assert rebuild(lake, "--full") == {SILVER: 0, GOLD: 0}
    assert lake.versions() == versions


def test_what_arrives_between_prepare_and_switch_is_neither_lost_nor_doubled(lake: Pipeline) -> None:
    truth = found(lake)
    plant(lake, SILVER, {1: LOST, 4: INVENTED})
    run(lake, "prepare", "--full")
    invented = 1 + 30 * 60
    arrived = [reading(1, 1, 77), reading(4, invented, 88), reading(4, invented, 89), reading(5, 2000, 66)]
    stream(lake, arrived, 2)
    run(lake, "switch", "--full")
    moments = {m: instant(begins(m) + s * SECOND) for m, s in ((4, invented), (5, 2000))}
    assert found(lake)[SILVER] == sorted([*truth[SILVER], (104, moments[4], 88.0), (105, moments[5], 66.0)])
    minutes = {m: moment.replace(second=0) for m, moment in moments.items()}
    new = [(104, minutes[4], 88.0, 88.0, 88.0, 1), (105, minutes[5], 66.0, 66.0, 66.0, 1)]
    assert found(lake)[GOLD] == sorted([*truth[GOLD], *new])
    assert run(lake, "prepare", "--full", rebuild="r2") == {SILVER: 0, GOLD: 0}


def test_what_the_stream_is_not_done_with_is_no_difference(lake: Pipeline) -> None:
    lake.produce("bpm", [reading(1, 4, 70)])
    assert run(lake, "prepare", "--full") == {SILVER: 0, GOLD: 0}


def test_minutes_that_the_stream_touches_meanwhile_are_its_own(lake: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(lake, GOLD, {5: LOST, 6: LOST})
    batches = iter((2, 3))

    def meanwhile(_: float) -> None:
        number = next(batches)
        stream(lake, [reading(5, 10 + number, 70)], number)

    monkeypatch.setattr(bpm_trends, "time", SimpleNamespace(sleep=meanwhile))
    lake.run(GOLD, "--full", "--rebuild", "r1")
    [row] = lake.rows("ops.rebuild_differences")
    assert row["device_id"] == 106


def test_who_writes_beside_a_switch_is_noticed(lake: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from spark_jobs import switch

    plant(lake, SILVER, {1: LOST})
    run(lake, "prepare", "--full")
    different = switch.different

    def and_meanwhile(*given: Any) -> Any:
        stream(lake, [reading(5, 2000, 66)], 2)
        return different(*given)

    monkeypatch.setattr(switch, "different", and_meanwhile)
    with pytest.raises(NotAlone):
        lake.run(SILVER, "--phase", "switch", "--rebuild", "r1", "--full")


def test_a_switch_that_waited_until_the_stream_may_go_on_touches_nothing(lake: Pipeline) -> None:
    plant(lake, SILVER, {1: LOST})
    run(lake, "prepare", "--full")
    planted = found(lake)
    with pytest.raises(TooLate, match="rebuild again"):
        run(lake, "switch", "--full", "--begin-by", "2024-01-01T00:00:00+00:00")
    assert found(lake) == planted


@pytest.mark.parametrize("extent", [(), ("--from-date", "2024-01-01")], ids=["nothing", "half a range"])
def test_without_an_extent_the_job_says_that_the_stream_does_it(lake: Pipeline, extent: tuple[str, ...]) -> None:
    with pytest.raises(NotAsked, match="The stream keeps this table up to date"):
        lake.run(SILVER, *extent)
