"""Fault drills of the heart-rate stream, on a stack of their own: `python -m bench.drills --help`."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.console import Console

from bench.drills import comparison
from bench.drills.commits import Log, out_of_order
from bench.drills.drivers import attempts, overlaps
from bench.drills.faults import DRILLS, Drill, Played, Setting, forget_tries, plan
from bench.drills.load import read_ledger
from bench.drills.report import Report
from bench.drills.stage import CannotBeHad, NotInTime, Stage, stage

MOMENT_SECONDS = 8.0  # a fault strikes at random within so long: longer than a batch takes
WARM_UP_SECONDS = 30.0
HOPELESS = 3  # so many failures in a row, and the stack is beyond help

console = Console(stderr=True, highlight=False, soft_wrap=True)
begun = time.monotonic()


def say(line: str) -> None:
    console.print(f"{time.monotonic() - begun:6.0f} s  {line}", markup=False)


def main(
    drill: Annotated[
        list[str] | None, typer.Option(help=f"Only these; may be repeated. One of: {', '.join(DRILLS)}.")
    ] = None,
    kills: Annotated[int, typer.Option(help="How many random kills, shared by the parts that are killed.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the messages, the order of the kills and their moments.")] = 1,
    rate: Annotated[int, typer.Option(help="Readings a second.", min=1)] = 1000,
    minutes: Annotated[float, typer.Option(help="No drill begins later than this after the first.")] = 120,
    outage_seconds: Annotated[float, typer.Option(help="How long `outage` takes the stream away.")] = 600,
    batch_jobs: Annotated[bool, typer.Option(help="Let Airflow run the batch layers beside the drills.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for report.md and report.json.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON here.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the stack's home, to look at what happened.")] = False,
) -> None:
    """Break the heart-rate stream under a steady load, time how it recovers, and account for every reading.

    Starts a stack in a temporary home on free ports; yours is not touched. `disk-full` needs root, for a small disk in
    memory that only the lake is on. The report goes to standard output. The exit code is 0 when nothing was lost,
    duplicated or started twice and all recovered.
    """
    unknown = set(drill or ()) - DRILLS.keys()
    if unknown:
        raise typer.BadParameter(f"there is no drill {', '.join(sorted(unknown))}", param_hint="--drill")
    names = drill or list(DRILLS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    report = Report(seed, rate, batch_jobs, False, time.time())
    drills = plan(seed, kills, names)
    try:
        with stage(say, keep, "disk-full" in names, batch_jobs) as on:
            report.lake_in_memory = on.lake_is_mounted
            on.start_load(seed, rate)
            try:
                play_all(on, drills, report, Setting(outage_seconds), 60 * minutes)
            except NotInTime as why:
                report.ended = f"broken off: {why}"
            account(on, report)
    except (KeyboardInterrupt, SystemExit):
        report.ended = "broken off by a signal"
    except Exception as error:
        console.print_exception()
        report.ended = f"broken off: {error}"
    show(report, out, json_file)
    raise typer.Exit(0 if report.is_good else 1)


def play_all(on: Stage, drills: list[Drill], report: Report, setting: Setting, seconds: float) -> None:
    on.settle()
    time.sleep(WARM_UP_SECONDS)
    deadline = time.monotonic() + seconds
    for number, drill in enumerate(drills, start=1):
        if time.monotonic() > deadline:
            left = [later.name for later in drills[number - 1 :]]
            report.not_run |= {name: f"time was up ({left.count(name)} of it)" for name in dict.fromkeys(left)}
            return
        rng = random.Random(f"{report.seed}/{number}")
        played = Played(drill.name)
        try:
            on.settle()
            forget_tries(on)
            time.sleep(rng.uniform(0, MOMENT_SECONDS))
            drill.play(on, rng, played, setting)
        except CannotBeHad as why:
            report.not_run[drill.name] = str(why)
            say(f"{number}/{len(drills)} {drill.name}: not run, {why}")
            continue
        except Exception as error:  # whatever it is, the drill has failed and the others go on
            played.failure = f"{type(error).__name__}: {error}"
        if played.broken_at:
            played.committed_at = played.committed_at or on.first_commit(played.mended_at)
        else:  # it failed before anything was broken
            played.broken_at = played.mended_at = time.time()
        report.played.append(played)
        say(f"{number}/{len(drills)} {told(played)}")
        if len(report.played) >= HOPELESS and all(p.failure for p in report.played[-HOPELESS:]):
            raise NotInTime(f"the last {HOPELESS} drills failed")


def told(played: Played) -> str:
    times = {
        "first commit": played.commit_seconds,
        "recovered": played.recovery_seconds,
        "noticed": played.noticed_seconds,
        "part back": played.part_back_seconds,
    }
    known = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items() if seconds is not None)
    detail = f" ({played.detail})" if played.detail else ""
    return f"{played.drill}{detail}: {known}" + (f"  FAILED: {played.failure}" if played.failure else "")


def account(on: Stage, report: Report) -> None:
    """End the load, let the stream read all of it, and compare."""
    if not report.played:
        return
    if not on.end_load():
        say("Kafka did not take all that was sent; what it took is compared")
    try:
        on.wait_for("end of the topic", on.drained)
    except NotInTime as why:
        report.ended = f"{report.ended}; {why}: the stream did not read all"
    say("comparing the tables with what was produced")
    ledger = read_ledger(on.ledger)
    topic = comparison.topic_records(on.home.kafka_bootstrap)
    pq.write_table(topic, on.home.path / "topic.parquet")  # for whoever looks into a home that is kept
    report.findings = comparison.compare(topic, ledger, comparison.delta_tables(on.home))
    broken_at = [played.broken_at for played in report.played]
    for name, table in report.findings.tables.items():
        for kind in ("lost", "duplicated", "wrong"):
            report.per_drill[f"{kind} {name}"] = comparison.by_drill(getattr(table, kind), ledger, broken_at)
    spans = attempts(on.home)
    report.attempts = len(spans)
    twice = overlaps(spans) + overlaps(on.drivers.spans())
    report.overlaps = [f"{first.name} and {second.name}" for first, second in twice]
    logs = (Log(on.home.lake.joinpath(*name.split("."))) for name in comparison.TABLES)
    report.batches_out_of_order = sum(len(out_of_order(log.look())) for log in logs)


def show(report: Report, out: Path | None, json_file: Path | None) -> None:
    text, document = report.text(), json.dumps(report.document(), indent=1)
    print(text)
    files = {json_file: document} if json_file else {}
    if out:
        files |= {out / "report.md": text + "\n", out / "report.json": document}
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


if __name__ == "__main__":
    typer.run(main)
