"""Hadoop's defaults for a Spark that has files of this machine only: a tenth of those that Hadoop brings.

Hadoop reads some 1,300 settings from XML in its jar, most of them of YARN, MapReduce and stores in the cloud, and Spark
copies all of them several times a query. Locally that is a sixth of what a query of little data costs
(docs/decisions/0009-hadoop-without-its-cluster.md).
"""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from local.services.java import ARCHIVES

FILES = ("core-default.xml", "mapred-default.xml", "yarn-default.xml")
# What a file system on this machine, Parquet and text are told. Hadoop knows all other values without its XML as well.
KEPT = (
    "file.",
    "fs.AbstractFileSystem.file.",
    "fs.automatic.close",
    "fs.creation.",
    "fs.defaultFS",
    "fs.df.",
    "fs.du.",
    "fs.file.",
    "fs.permissions.",
    "fs.trash.",
    "hadoop.security.authentication",
    "hadoop.security.authorization",
    "hadoop.tmp.dir",
    "io.",
    "mapreduce.fileoutputcommitter.",
    "mapreduce.input.",
    "mapreduce.output.",
)


@functools.cache
def jar(jars: Path) -> Path:
    """A jar to put before those of Spark in the folder `jars`, made if there is none: the same for the same Hadoop.

    Always of the same bytes and time: an archive of loaded classes fits one classpath only, and looks at both.
    Raises FileNotFoundException when there is no Hadoop.
    """
    brought = next(iter(sorted(jars.glob("hadoop-client-api-*.jar"))), None)
    if brought is None:
        raise FileNotFoundError(f"There is no hadoop-client-api-*.jar in {jars}.")
    follows_from = (brought.name, brought.stat().st_size, Path(__file__).read_text())
    name = hashlib.sha256(repr(follows_from).encode()).hexdigest()[:12]
    made = ARCHIVES / f"hadoop-defaults-{name}.jar"
    if not made.exists():
        ARCHIVES.mkdir(parents=True, exist_ok=True)
        draft = made.with_suffix(f".{os.getpid()}")
        with zipfile.ZipFile(brought) as source, zipfile.ZipFile(draft, "w") as target:
            for file in FILES:
                target.writestr(zipfile.ZipInfo(file), _without_the_rest(source.read(file)))
        os.utime(draft, (0, 0))
        draft.replace(made)
    return made


def _without_the_rest(xml: bytes) -> bytes:
    properties = ElementTree.fromstring(xml).iter("property")  # noqa: S314 - Hadoop's own file
    kept = ElementTree.Element("configuration")
    kept.extend(given for given in properties if given.findtext("name", "").strip().startswith(KEPT))
    return ElementTree.tostring(kept)
