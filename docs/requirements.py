"""Resolve pyproject.toml into requirements.txt (what Astro installs) and requirements-dev.txt (everything local).

    python -m docs.requirements [--check]

The local set is resolved first and constrains the deployed one, so both hold the same versions. `--check` resolves into
a scratch folder, starting from what is committed, and fails when the result differs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
DEV, DEPLOYED = "requirements-dev.txt", "requirements.txt"


def resolve(folder: Path) -> None:
    """Write both files into `folder`; versions that stand there already are kept where they still fit."""
    common = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python", sys.executable),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
    ]
    for output, extra in ((DEV, ["--extra", "dev"]), (DEPLOYED, ["--constraint", str(folder / DEV)])):
        subprocess.run([*common, *extra, "pyproject.toml", "-o", str(folder / output)], cwd=REPO, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the files are out of date")
    if not parser.parse_args().check:
        resolve(REPO)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in (DEV, DEPLOYED):
            shutil.copy(REPO / name, scratch)
        resolve(Path(scratch))
        stale = [name for name in (DEV, DEPLOYED) if (REPO / name).read_text() != (Path(scratch) / name).read_text()]
    if stale:
        print(f"{' and '.join(stale)} do not match pyproject.toml: run `make requirements` and commit.")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
