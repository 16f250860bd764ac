"""The `fitness` command: the cloud on one machine, up and down."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from local.home import REPO, Home
from local.jars import JarsMissing
from local.services import stack, stream
from local.services.part import PartFailed
from local.services.parts import PARTS

STREAM_SECONDS = 120

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""The Fitness Data Center on this machine: sources, Kafka, Spark, the workspace and Airflow.

    FITNESS_HOME (default .fitness in the repository) holds all state, FITNESS_PORT_BASE (default 18000) says where the
    ports begin. Two stacks with different values of both run side by side.""",
)
console = Console(stderr=True, highlight=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    os.umask(0o077)  # personal data: what is made from here on is its owner's only
    if version:
        with (REPO / "pyproject.toml").open("rb") as file:
            typer.echo(tomllib.load(file)["project"]["version"])
        raise typer.Exit


def _home() -> Home:
    try:
        return Home.from_environment()
    except ValueError as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(2) from None


def _say(line: str) -> None:
    console.print(line, markup=False)


@contextlib.contextmanager
def _failure_told() -> Iterator[None]:
    try:
        yield
    except (PartFailed, JarsMissing) as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None


@app.command()
def up(
    simulator: Annotated[bool, typer.Option(help="Also run members, devices and gyms that make data.")] = True,
) -> None:
    """Start everything that does not run yet, and wait until every part is healthy."""
    home = _home()
    began = time.monotonic()
    with _failure_told():
        troubles = stack.up(home, _say, frozenset() if simulator else frozenset({"simulator"}))
    for trouble in troubles:
        console.print(f"\n{trouble.part}: {trouble.reason}", style="red", markup=False)
        for line in trouble.log:
            console.print(f"  {line}", markup=False)
        if trouble.log:
            console.print(f"  (all of it: ./fitness logs {trouble.part})", markup=False)
    if troubles:
        raise typer.Exit(1)
    _say(f"everything is healthy ({time.monotonic() - began:.0f} s)")


@app.command()
def down() -> None:
    """Stop everything, in order. No process is left; the data stays."""
    home = _home()
    if not home.path.exists():
        _say("nothing runs here")
        return
    with _failure_told():
        left = stack.down(home, _say)
    _say("stopped" + (f"; {left} stray processes were ended" if left else ""))


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: with URLs, token and passwords.")] = False,
) -> None:
    """Show each part, and whether it does its work. The exit code is 0 only if all do."""
    state = stack.state(_home())
    parts = {name: entry for name, entry in state.items() if "healthy" in entry}
    if as_json:
        typer.echo(json.dumps(state, indent=2))
    else:
        table = Table("part", "state", "healthy", "pid", "port", box=None)
        for name, entry in parts.items():
            healthy = "[green]yes[/]" if entry["healthy"] else "[red]no[/]"
            table.add_row(name, entry["state"], healthy, str(entry["pid"] or ""), str(entry["port"] or ""))
        Console(highlight=False).print(table)
    raise typer.Exit(0 if all(entry["healthy"] for entry in parts.values()) else 1)


LOGS = [*PARTS, "bpm_stream", "watch", "supervisord"]


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(LOGS)}.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what is added.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines of the end.")] = 200,
) -> None:
    """Show the log of a part."""
    home = _home()
    if name not in LOGS:
        console.print(f"There is no log {name!r}; there are: {', '.join(LOGS)}.", style="red", markup=False)
        raise typer.Exit(2)
    file = stack.log_file(home, name)
    if file is None or not file.exists():
        console.print(f"{name} has not written a log yet.", style="red", markup=False)
        raise typer.Exit(1)
    # tail follows the file's name over supervisord's rotation
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), str(file)])  # noqa: S606


class StreamCommand(StrEnum):
    STATUS, STOP, ENSURE = "status", "stop", "ensure"


@app.command("stream")
def heart_rate_stream(
    what: Annotated[StreamCommand, typer.Argument(help="The verdict on it; end it and keep it so; start it.")],
) -> None:
    """The heart-rate stream: look at it, stop it, start it. The exit code of `status` is 0 while it is well."""
    home = _home()
    if not home.path.exists():
        _say("nothing runs here")
        raise typer.Exit(1)
    try:
        run = stream.command(home, what, timeout_seconds=STREAM_SECONDS)
    except subprocess.TimeoutExpired:
        console.print(f"no end after {STREAM_SECONDS} s; see ./fitness logs bpm_stream", style="red", markup=False)
        raise typer.Exit(1) from None
    typer.echo(run.stdout, nl=False)
    if run.returncode and not run.stdout:
        console.print(f"{stream.last_line(run)}; see ./fitness status", style="red", markup=False)
    raise typer.Exit(run.returncode)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop everything and delete all data of this stack."""
    home = _home()
    if not home.path.exists():
        _say("there is nothing to delete")
        return
    if not yes:
        typer.confirm(f"Delete all data in {home.path}?", abort=True)
    with _failure_told():
        stack.reset(home, _say)
    _say(f"all data in {home.path} is deleted")


@app.command()
def demo() -> None:
    """Start everything, feed it, wait until all four flows are in gold, and say what to look at."""
    from local import demo as steps

    try:
        steps.demo()
    except steps.DemoFailed as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from None


def _simulator_command(name: str, summary: str) -> None:
    """A command of the simulator's own, imported when it is called: the others should not wait for it."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(name, help=summary, context_settings=settings)
    def run(context: typer.Context) -> None:
        from local.simulator import cli

        own = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        own.command()(getattr(cli, name))
        own(args=context.args, prog_name=f"./fitness {name}")


_simulator_command("simulate", "Let members live some days: they fill the sources with history.")
_simulator_command("replay", "Send recorded readings (a Parquet file) to the heart-rate topic.")


if __name__ == "__main__":
    app(prog_name="./fitness")
