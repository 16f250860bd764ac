"""What supervisord runs for every part: `python -m local.services.launch NAME` prepares the part, then becomes it.

So each start, also one after a crash, sees to its own folders and settings, and no secret stands in supervisord's
configuration or in anybody's arguments.
"""

from __future__ import annotations

import os
import sys

from local.home import Home
from local.services.part import PartFailed
from local.services.parts import PARTS


def main(name: str) -> None:
    try:
        launch = PARTS[name].prepare(Home.from_environment())
    except PartFailed as error:
        sys.exit(f"{name} cannot start. {error}")
    launch.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(launch.folder)
    program = launch.arguments[0]
    os.execvpe(program, list(launch.arguments), dict(launch.environment))  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1])
