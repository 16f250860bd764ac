"""`python -m local.simulator live`: the endless feed, as the supervisor runs it. Also `simulate` and `replay`."""

from __future__ import annotations

import typer

from local.simulator.cli import live, replay, simulate

app = typer.Typer(no_args_is_help=True, add_completion=False)
for command in (live, simulate, replay):
    app.command()(command)

if __name__ == "__main__":
    app(prog_name="python -m local.simulator")
