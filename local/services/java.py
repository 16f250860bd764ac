"""Which Java runs the JVMs of the stack, and the flags that make them start fast."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from local.home import Home
from local.jars import jars_home
from local.services.part import PartFailed

SUPPORTED = range(17, 22)  # Kafka 4 and Spark 4 want at least 17; Hadoop's login fails from 23 on
ARCHIVES = Path(sys.prefix) / "share" / "java"
INSTALL = "Install a JDK 17 or 21, e.g. `apt-get install openjdk-17-jre-headless`, or point JAVA_HOME at one."


@functools.cache
def java_home() -> Path:
    """The Java to use: JAVA_HOME, the one on the PATH, else one in the usual places; raises PartFailed if none fits."""
    seen: list[str] = []
    for home in _candidates():
        version = _version(home)
        if version is None:
            continue
        if _major(version) in SUPPORTED:
            return home
        seen.append(f"{home} is {version}")
    found = f"found only {'; '.join(seen)}" if seen else "none was found"
    raise PartFailed(f"Kafka and Spark need Java 17 to 21; {found}. {INSTALL}")


def java() -> str:
    return str(java_home() / "bin" / "java")


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).resolve().parent.parent
    for folder in (Path("/usr/lib/jvm"), Path("/Library/Java/JavaVirtualMachines"), Path("/opt/homebrew/opt")):
        for home in sorted(folder.glob("*")) if folder.is_dir() else ():
            yield home / "Contents" / "Home" if (home / "Contents" / "Home").is_dir() else home


@functools.cache
def _version(home: Path) -> str | None:
    """`17.0.15+6`; None if there is no Java that runs."""
    program = home / "bin" / "java"
    if not program.is_file():
        return None
    try:
        run = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(build ([^)]+)\)", run.stderr) or re.search(r'version "([^"]+)"', run.stderr)
    return match.group(1).split(",")[0].strip() if match else None


def _major(version: str) -> int:
    """The feature release: 17 of `17.0.15+6`, 8 of `1.8.0_392`."""
    numbers = re.split(r"[._+-]", version)
    return int(numbers[1] if numbers[0] == "1" else numbers[0])


def common_flags(home: Home) -> list[str]:
    """Flags of every JVM of the stack. Java does not look at TMPDIR: what it unpacks would stay in /tmp."""
    return [f"-Djava.io.tmpdir={home.temporary}", "-Djava.awt.headless=true"]


def archive_flags(home: Home, name: str, write: bool = True) -> list[str]:
    """Flags that read an archive of loaded classes; if there is none yet and `write`, that write one at a clean stop.

    It more than halves what a start costs. Java ignores an archive that was made by another version, or of other files
    or in another place than it finds now: its name carries what it must fit, and it lies in the environment, with which
    it is thrown away.
    """
    archive = _archive(name)
    if archive.exists():
        return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"]
    if not write:
        return []
    draft = _draft(home, name)
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.unlink(missing_ok=True)
    return [f"-XX:ArchiveClassesAtExit={draft}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def has_archive(name: str) -> bool:
    return _archive(name).exists()


def keep_archive(home: Home, name: str) -> None:
    """Share the archive that a cleanly stopped JVM has written. Written aside first: a half one must not be read."""
    draft = _draft(home, name)
    if not draft.exists() or draft.stat().st_size == 0:
        return
    archive = _archive(name)
    archive.parent.mkdir(parents=True, exist_ok=True)
    aside = archive.with_suffix(f".{os.getpid()}")
    shutil.copyfile(draft, aside)
    aside.replace(archive)
    draft.unlink()


def _archive(name: str) -> Path:
    return ARCHIVES / f"{name}-{jars_home().name}-java-{_version(java_home())}.jsa"


def _draft(home: Home, name: str) -> Path:
    return home.path / "run" / f"{name}.jsa"
