"""What the batch jobs of silver and gold cost: `python -m bench.batch_jobs readings | history`.

readings   250,000 readings with their members and sessions into an empty lake, twice: by a server that has just
           started and by the same one again; then 1,000 further ones, some times
history    the same increment on 1x, 10x and 100x history: seconds, files of the tables that are read, and bytes of all
           that the server reads

The jobs run one after the other in this process against a Spark Connect server as the stack has it, from a cold start;
the stream's part is measured by `bench.stream_freshness`. `job time` is the time from a job's start to its outcome row.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from watchdog.events import FileClosedNoWriteEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from bench.spark_server import spark_server
from spark_jobs import packing
from tests.oracle import ProfileChange, Reading, RegistrationVersion, VisitVersion, WorkoutEvent, World, at
from tests.spark.pipeline import JOBS, Pipeline

SECOND = 1_000_000
DAY = 86_400 * SECOND
START = at("2024-02-01T08:00:00")
SESSION_SECONDS = 1000
SHORT_SECONDS = 100  # so that a hundredfold history of sessions can be made
WARM_UP = 3  # increments that warm the server before those that count


def world(members: Iterable[int], sessions: int, seconds: int = SESSION_SECONDS) -> World:
    """Members with `sessions` sessions each, a visit around each, and a reading a second in it."""
    told = World()
    for user in members:
        told.registrations.append(RegistrationVersion(user, 10 * user, f"mac-{user}", START - 300 * DAY, user))
        told.profile_changes.append(ProfileChange((user, 0), "c", user, changed_at=START - 300 * DAY, city="Ghent"))
        for number in range(sessions):
            begin, end = START + number * DAY, START + number * DAY + seconds * SECOND
            visit = 1_000 * user + number
            told.visits.append(VisitVersion(visit, f"mac-{user}", user % 5, begin - SECOND, end + SECOND, visit))
            told.workout_events += [WorkoutEvent(user, 1, number, "start", begin)]
            told.workout_events += [WorkoutEvent(user, 1, number, "stop", end)]
            beats = range(1, seconds + 1)
            told.readings += [
                Reading(10 * user, begin + beat * SECOND, 60.0 + (beat * 7 + user) % 100) for beat in beats
            ]
    return told


def further(count: int, number: int, seconds: int = SESSION_SECONDS) -> World:
    """Late readings in the middle of sessions of five members, each between two that are known."""
    moment = START + seconds // 2 * SECOND + 13 * number + 1
    return World(readings=[Reading(10 * (1 + n % 5), moment + 1000 * n, 77.0) for n in range(count)])


def run_jobs(pipeline: Pipeline) -> dict[str, float]:
    """Seconds of each job."""
    taken = {}
    for job in JOBS:
        begun = time.monotonic()
        pipeline.run(job)
        taken[job] = time.monotonic() - begun
    return taken


def worked(pipeline: Pipeline) -> set[str]:
    """Jobs whose last run wrote something."""
    return {job for job in JOBS if sum(dict(pipeline.outcome(job)["rows_out"]).values())}


def measure_first_readings(pipeline: Pipeline, members: int, server: str) -> None:
    """A world with its readings into an empty lake."""
    pipeline.land(world(range(1, members + 1), 5))
    taken = run_jobs(pipeline)
    print(f"\n{members * 5 * SESSION_SECONDS:,} readings, {server}: {sum(taken.values()):.1f} s of job time")
    for job, seconds in taken.items():
        print(f"  {job:32} {seconds:6.2f}")


def measure_further_readings(pipeline: Pipeline, rounds: int) -> None:
    for number in range(rounds):
        pipeline.land(further(1000, number))
        taken = run_jobs(pipeline)
        at_work = worked(pipeline)
        busy = sum(seconds for job, seconds in taken.items() if job in at_work)
        print(
            f"1,000 further readings, round {number + 1}: {sum(taken.values()):.1f} s of job time, "
            f"{busy:.1f} s of it in the {len(at_work)} jobs that had something to do"
        )


def bytes_read() -> int:
    """That the Spark server, the one Java child of this process, has read from files and sockets so far."""
    [server] = [child for child in psutil.Process().children() if child.name() == "java"]
    return int(server.io_counters().read_chars)


class FilesRead(FileSystemEventHandler):
    """Which files of tables were opened and closed again without a word written, since last asked."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def on_closed_no_write(self, event: FileSystemEvent) -> None:
        if str(event.src_path).endswith(".parquet"):
            self._paths.add(str(event.src_path))

    def count(self) -> int:
        time.sleep(0.5)  # what the kernel has noted is on its way
        paths, self._paths = self._paths, set()
        return len(paths)


@contextmanager
def files_read(lake: Path) -> Iterator[FilesRead]:
    reads, observer = FilesRead(), Observer()
    observer.schedule(reads, str(lake), recursive=True, event_filter=[FileClosedNoWriteEvent])
    observer.start()
    try:
        yield reads
    finally:
        observer.stop()
        observer.join()


def pack(pipeline: Pipeline) -> None:
    """As maintenance and the stream do now and then: else each increment would find the small files of those before."""
    pipeline.run("ops.maintenance", "--many-files", "2")
    packing.pack(pipeline.spark, "spark_catalog.silver.heart_rate")


def measure_history(pipeline: Pipeline, members: int, rounds: int) -> None:
    """Grow the history by members who do not matter to the increment, and repeat the increment."""
    base, held, number = None, 0, 0
    for factor in (1, 10, 100):
        step = 50
        for first in range(held + 1, members * factor + 1, step):
            pipeline.land(world(range(first, min(first + step, members * factor + 1)), 2, SHORT_SECONDS))
        held = members * factor
        pipeline.run_all()
        pack(pipeline)
        seconds, files, read = [], [], []
        with files_read(pipeline.lake) as reads:
            for round_number in range(WARM_UP + rounds):
                pipeline.land(further(200, number, SHORT_SECONDS))
                number += 1
                before = bytes_read()
                reads.count()
                taken = sum(run_jobs(pipeline).values())
                opened = reads.count()
                assert len(worked(pipeline)) == 3, "the increment must reach gold"
                if round_number >= WARM_UP:
                    seconds.append(taken)
                    files.append(opened)
                    read.append(bytes_read() - before)
        middle = (statistics.median(seconds), statistics.median(files), statistics.median(read) / 1e6)
        base = base or middle
        ratios = [now / then for now, then in zip(middle, base, strict=True)]
        print(
            f"{factor:4}x history ({held:,} members), median of {rounds}: {middle[0]:.2f} s, {ratios[0]:.2f} of 1x; "
            f"{middle[1]:.0f} files of tables, {ratios[1]:.2f} of 1x; {middle[2]:.1f} MB read, {ratios[2]:.2f} of 1x",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.batch_jobs", description=__doc__)
    parser.add_argument("what", choices=("readings", "history"))
    parser.add_argument("--members", type=int, help="default: 50 for readings, 10 for history")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    print(f"{os.cpu_count()} cores")
    with spark_server() as (session, folder):
        if given.what == "readings":
            for number, server in enumerate(("a server that has just started", "one that has run each job once")):
                pipeline = Pipeline(session, folder / str(number))
                measure_first_readings(pipeline, given.members or 50, server)
            measure_further_readings(pipeline, given.rounds)
        else:
            measure_history(Pipeline(session, folder), given.members or 10, given.rounds)


if __name__ == "__main__":
    main()
