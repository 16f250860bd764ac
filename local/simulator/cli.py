"""`./fitness simulate` and `./fitness replay`: a history of invented members, and recorded readings."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from local.home import Home
from local.services.part import listens
from local.simulator import ledger as ledgers
from local.simulator.facts import DAY, SECOND, instant, microseconds
from local.simulator.feed import Clock, Told, deliver_doubtful, known, settle_doubts, tell, versions_apart
from local.simulator.ledger import Ledger, LedgerInUse
from local.simulator.members import LARGEST_SEED, MEMBERS_PER_SEED, user_id
from local.simulator.replay import Recording, UnreadableRecording, recorded_step
from local.simulator.sources import Sources, Stopped
from local.simulator.world import LIVE, Story, world

HISTORY_SEED, LIVE_SEED = 42, 1
LIVE_MEMBERS = 200
EARLIEST = datetime(2003, 1, 1, tzinfo=UTC)  # members register up to two years before; readings before 2000 are refused
READINGS_A_LIVE_MEMBER = 0.8  # a second: the share of the time in which a member of the live pace trains

console = Console(soft_wrap=True, highlight=False)
log = logging.getLogger("simulator")

Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Same seed, same members and same lives.")]


def simulate(
    members: Annotated[int, typer.Option(min=1, max=MEMBERS_PER_SEED, help="How many members the company has.")] = 1000,
    days: Annotated[float, typer.Option(min=0.01, max=36_500, help="How many days of history.")] = 30,
    seed: Seed = HISTORY_SEED,
    reading_interval: Annotated[
        float,
        typer.Option(min=0.1, max=15, help="Seconds between two readings of a device; real ones send each second."),
    ] = 5.0,
    end_date: Annotated[
        str | None, typer.Option(help="Last day of the history, YYYY-MM-DD. [default: until now]", show_default=False)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="At most this many readings a second.", show_default=False)
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Seconds of history in one second. [default: as fast as it goes]", show_default=False
        ),
    ] = None,
    wait_for_extraction: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds to wait, at the end, until the pipeline has read the registrations, before some members get "
            "another device or delete their account. What could not be told then is told by the same command later; "
            "with 0 nothing is said about it.",
        ),
    ] = 120.0,
) -> None:
    """Fill the sources with a history: members who register, visit gyms, work out and change their profiles.

    Devices go offline and sync late, repeat themselves and send rubbish; members forget to stop a session or to log
    out. What truly happened is in FITNESS_HOME/ledger.

    An interrupted history goes on where it stopped when the same command is given again; a finished one is not told
    twice.
    """
    home = Home.from_environment()
    _require(home, "postgres", "kafka")
    until = _end_of(end_date)
    if until - round(days * DAY) < microseconds(EARLIEST):
        _fail(f"A history begins in {EARLIEST.year} or later: choose less --days, or a later --end-date.")
    if _run_of_seed(home, "live", seed):
        _fail(f"Seed {seed} feeds the sources live in this home. Choose another --seed.")
    wanted = {"members": members, "days": days, "reading_interval": reading_interval, "end_date": end_date}
    folder = _run_of_seed(home, "history", seed)
    if folder is None:
        folder = home.ledger / ledgers.run_id("history", seed)
        since = until - round(days * DAY)
        options: dict[str, Any] | None = {"mode": "history", "seed": seed, "since": since, "until": until, **wanted}
    else:
        earlier = ledgers.options(folder)
        if any(earlier[name] != value for name, value in wanted.items()):
            _fail(f"Seed {seed} already tells another history in this home ({folder.name}). Choose another --seed.")
        since, until, options = earlier["since"], earlier["until"], None
        if ledgers.is_complete(folder):
            console.print(f"The history of seed {seed} has been told before ({folder.name}): nothing to do.")
            return
    story = Story(seed, members, since, until, reading_interval=reading_interval)

    with _stoppable() as stop, Ledger(folder, options) as ledger, _progress() as progress:
        task = progress.add_task(
            f"{instant(since):%Y-%m-%d} to {instant(until):%Y-%m-%d}", total=until - since, note=""
        )
        with Sources(home, stop, progress.console.print) as sources:
            deliver_doubtful(ledger, sources)

            def on_told(told: Told) -> None:
                progress.update(task, completed=told.arrives_at - since, note=_note(told, began))

            def on_pause() -> bool:
                progress.update(task, note="waiting until the pipeline has read the registrations")
                return _extracted(home, sources, seed, members, wait_for_extraction, stop)

            began = time.monotonic()
            clock = Clock(None, speed)
            told = tell(versions_apart(world(story)), ledger, sources, stop, clock, rate, on_told, on_pause)
            progress.update(task, completed=until - since, note="")
    _summarise(told, time.monotonic() - began, folder)
    if wait_for_extraction and not ledgers.is_complete(folder):
        console.print(
            "Some members' new devices and deletions are not told yet: the pipeline has not read the registrations "
            "that they overwrite. Give the same command again later.",
            style="yellow",
        )


def replay(
    file: Annotated[Path, typer.Argument(help="Parquet with device_id, read_at and heartrate.", show_default=False)],
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Times real time. [default: as fast as it goes]", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first readings.", show_default=False)] = None,
) -> None:
    """Send recorded readings to Kafka, in the order of the file."""
    home = Home.from_environment()
    try:
        recording = Recording(file, limit)
    except UnreadableRecording as error:
        _fail(str(error))
    _require(home, "kafka")
    folder = home.ledger / ledgers.run_id("replay", 0)
    options = {"mode": "replay", "file": str(file.absolute()), "speed": speed, "limit": limit}
    with _stoppable() as stop, Ledger(folder, options) as ledger, _progress() as progress:
        task = progress.add_task(file.name, total=recording.rows, note="")
        with Sources(home, stop, progress.console.print) as sources:
            _settle(home, sources, progress.console.print)

            def on_told(told: Told) -> None:
                progress.update(task, completed=told.readings, note=_note(told, began))

            began = time.monotonic()
            story = recording.story(None if speed is None else recorded_step(speed))
            try:
                told = tell(story, ledger, sources, stop, Clock(0, speed, step_seconds=0.25), on_told=on_told)
            except UnreadableRecording as error:
                _fail(f"{file} cannot be replayed: {error}")
    console.print(
        f"{told.readings:,} readings delivered in {time.monotonic() - began:.1f} s, in the order of {file.name}."
    )


def live(
    members: Annotated[
        int | None,
        typer.Option(
            min=1, max=MEMBERS_PER_SEED, help=f"How many members train. [default: {LIVE_MEMBERS}]", show_default=False
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="About this many readings a second: sets --members.", show_default=False)
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.01, max=1, help="Seconds of the story in one second; the future cannot be told.")
    ] = 1.0,
    seed: Seed = LIVE_SEED,
) -> None:
    """Feed the sources in real time, without end: members who train for some minutes, rest and come back.

    After a restart the same members go on, with new visits and workouts. What was under way when a simulator was killed
    is delivered first. Ends cleanly on SIGTERM and SIGINT.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    home = Home.from_environment()
    if members is None:
        members = round(rate / speed / READINGS_A_LIVE_MEMBER) + 1 if rate else LIVE_MEMBERS
    if members > MEMBERS_PER_SEED:
        _fail(f"{members:,} members would be needed, and a seed has {MEMBERS_PER_SEED:,}: choose a lower --rate.")
    if _run_of_seed(home, "history", seed):
        _fail(f"Seed {seed} tells a history in this home. Choose another --seed.")
    with _stoppable() as stop, Sources(home, stop, log.info) as sources:
        _settle(home, sources, log.info)
        # Members who come back in the middle of a second would meet those whom the last run left there.
        since = microseconds(datetime.now(UTC).replace(microsecond=0)) + SECOND
        story = Story(seed, members, since, until=None, pace=LIVE, known=known(home.ledger, seed))
        folder = home.ledger / ledgers.run_id("live", seed)
        options = {"mode": "live", "seed": seed, "members": members, "since": since, "speed": speed}
        log.info("%s members train (seed %s, ledger %s)", members, seed, folder)
        with Ledger(folder, options) as ledger:
            report = _Report()
            tell(world(story), ledger, sources, stop, Clock(since, speed), on_told=report)


def _settle(home: Home, sources: Sources, say: Callable[[str], None]) -> None:
    if doubts := settle_doubts(home.ledger, sources):
        say(f"delivered {doubts} batches again that an earlier run may not have delivered")


class _Report:
    """A line a minute for the log of a feed without end."""

    def __init__(self) -> None:
        self._at, self._readings = time.monotonic(), 0

    def __call__(self, told: Told) -> None:
        elapsed = time.monotonic() - self._at
        if elapsed >= 60:
            log.info("%.0f readings a second, %s in all", (told.readings - self._readings) / elapsed, told.readings)
            self._at, self._readings = time.monotonic(), told.readings


def _run_of_seed(home: Home, mode: str, seed: int) -> Path | None:
    """The run of that mode and seed in this home, if there is one."""
    for folder in ledgers.runs(home.ledger):
        found = ledgers.options(folder)
        if found.get("seed") == seed and found["mode"] == mode:
            return folder
    return None


def _end_of(end_date: str | None) -> int:
    """The end of that UTC day, or now if that is earlier."""
    now = datetime.now(UTC).replace(microsecond=0)
    if end_date is None:
        return microseconds(now)
    try:
        day = datetime.strptime(end_date, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        _fail(f"--end-date must be a day like 2026-01-31, not {end_date!r}.")
    if day > now:
        _fail(f"--end-date {end_date} is in the future; readings from the future are refused.")
    return microseconds(min(now, day + timedelta(days=1)))


def _extracted(
    home: Home, sources: Sources, seed: int, members: int, patience_seconds: float, stop: threading.Event
) -> bool:
    """Whether the pipeline has read all registrations of these members, now or within the patience."""
    newest = sources.newest_registration(user_id(seed, 0), user_id(seed, members))
    deadline = time.monotonic() + patience_seconds
    while newest is not None and (_extracted_version(home) or 0) < newest:
        if not _listens(home, "airflow_api") or time.monotonic() > deadline:
            return False
        if stop.wait(1):
            raise Stopped
    return True


def _listens(home: Home, part: str) -> bool:
    return listens(home.port(part))


def _require(home: Home, *parts: str) -> None:
    """What is away for a moment is waited for; what was never started is not."""
    for part in parts:
        if not _listens(home, part):
            _fail(f"Nothing listens on port {home.port(part)} ({part} of {home.path}): run `./fitness up` first.")


def _extracted_version(home: Home) -> int | None:
    """The highest row version in bronze.registrations; None when it holds none.

    Its files are read by pyarrow's own threads. Through deltalake they would call Python, and a process that ends
    while one of them does is aborted.
    """
    import pyarrow.dataset
    from deltalake import DeltaTable

    path = home.lake / "bronze" / "registrations"
    if not DeltaTable.is_deltatable(str(path)):
        return None
    files = DeltaTable(str(path)).file_uris()
    if not files:
        return None
    versions = pyarrow.dataset.dataset(files, format="parquet").to_table(columns=["row_version"])["row_version"]
    return int(versions.to_numpy().max())


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; what they end ends without a traceback."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except Stopped:
        console.print("Stopped.")
        raise typer.Exit(0) from None
    except LedgerInUse as error:
        _fail(f"{error}: wait for it, or choose another --seed.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _note(told: Told, began: float) -> str:
    seconds = max(time.monotonic() - began, 0.001)
    return f"{told.readings:,} readings, {told.readings / seconds:,.0f}/s"


def _summarise(told: Told, seconds: float, folder: Path) -> None:
    console.print(
        f"{told.readings:,} readings, {told.rows:,} rows and {told.messages:,} odd messages delivered in "
        f"{seconds:.1f} s ({told.readings / max(seconds, 0.001):,.0f} readings a second). Truth: {folder}"
    )


def _fail(sentence: str) -> NoReturn:
    console.print(sentence, style="red")
    raise typer.Exit(2)
