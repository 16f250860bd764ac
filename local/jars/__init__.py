"""The jars of the local cloud: declared in pom.xml, resolved by Maven once, shared by every stack of this user.

`jar_folder("spark")` is a folder of jars that is complete or does not exist: it is filled aside and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
GROUPS = ("kafka", "connect", "spark")

Say = Callable[[str], None]


class JarsMissing(Exception):
    """Maven could not bring the jars; the message says what to do."""


def cache_folder() -> Path:
    """Shared by all stacks of this user: `$XDG_CACHE_HOME/fitness-data-center`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fitness-data-center"


def jars_home() -> Path:
    """One folder for each content of pom.xml, so that a bump never mixes versions."""
    return cache_folder() / "jars" / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]


def jar_folder(group: str) -> Path:
    """The folder with the jars of `kafka`, `connect` or `spark`; downloads all three when they are missing."""
    if group not in GROUPS:
        raise ValueError(f"There are jars for {', '.join(GROUPS)}, not for {group!r}.")
    return resolve() / group


def resolve(say: Say = lambda _: None) -> Path:
    """Make sure that all jars are in the cache and return its folder. Of two that come at once, the second waits."""
    home = jars_home()
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("jars: another process is downloading them, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            draft = Path(tempfile.mkdtemp(prefix="partial-", dir=home.parent))
            try:
                for number, group in enumerate(GROUPS, start=1):
                    _download(group, draft / group, f"jars: {group} ({number} of {len(GROUPS)})", say)
                _unpack_plugins(draft / "connect")
                draft.chmod(0o755)
                draft.rename(home)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return home


def _download(group: str, into: Path, label: str, say: Say) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise JarsMissing(
            "Maven (mvn) is needed once, to download the jars of Kafka, Debezium and Delta, and is not on the PATH. "
            "Install it, e.g. `apt-get install maven` or `brew install maven`, and run this again."
        )
    say(label)
    command = [maven, "--batch-mode", "--strict-checksums", "-f", str(POM), "-P", group]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={into}"]
    tail: list[str] = []
    arrived = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=into.parent) as run:
        for line in run.stdout or ():
            tail = [*tail[-30:], line.rstrip()]
            if line.startswith("[INFO] Downloaded") or "Downloaded from" in line:
                name = line.split("(")[0].rsplit("/", 1)[-1].strip()
                if name.endswith((".jar", ".tar.gz")):
                    arrived += 1
                    say(f"{label}: {arrived} files downloaded, last {name}")
    if run.returncode != 0:
        reasons = [line for line in tail if "ERROR" in line][:3] or tail[-3:]
        raise JarsMissing(
            f"Maven could not download the {group} jars ({' '.join(reasons)[:600]}). "
            "Check the network and Maven's settings, then run this again; what has arrived is kept."
        )


def _unpack_plugins(folder: Path) -> None:
    """Debezium's connectors come as archives; Connect wants each as a folder below its plugin path."""
    plugins = folder / "plugins"
    plugins.mkdir()
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(plugins, filter="data")
        archive.unlink()
