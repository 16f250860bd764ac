"""What supervisord runs for every part: `python -m local.services.launch NAME` prepares the part, then becomes it.

So each start, also one after a crash, sees to its own folders and settings, and no secret stands in supervisord's
configuration or in anybody's arguments.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

from local.home import Home
from local.services.part import PartFailed
from local.services.parts import PARTS
from local.services.supervisor import leftovers
from local.workspace.runner import session_gives_way

NICE = 5  # of all parts together, beside what jobs have as a cluster of their own: the stream, which is read live
PART = "FITNESS_PART"  # in the environment of a part and of the processes that it starts itself


def end_orphans(home: Home, name: str) -> None:
    """End what a killed process of this part has left: its workers would work on beside those of the new one.

    Killed without a word, as it was: a task that could react would cancel its job, which the retry wants to find.
    """
    for process in leftovers(home):
        with contextlib.suppress(psutil.Error):
            if process.environ().get(PART) == name:
                process.kill()


def main(name: str) -> None:
    home, part = Home.from_environment(), PARTS[name]
    if not part.adopts:
        end_orphans(home, name)
    try:
        launch = part.prepare(home)
    except PartFailed as error:
        sys.exit(f"{name} cannot start. {error}")
    launch.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(launch.folder)
    program = launch.arguments[0]
    os.nice(launch.nice)
    session_gives_way(NICE)
    os.execvpe(program, list(launch.arguments), {**launch.environment, PART: name})  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1])
