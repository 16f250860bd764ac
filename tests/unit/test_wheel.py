"""The wheel that Databricks gets: it has the name that the settings ask for, and every file that jobs read."""

import re
import subprocess
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_the_wheel_has_its_name_and_every_file():
    subprocess.run(["make", "wheel"], cwd=REPO, check=True, capture_output=True)
    [wheel] = (REPO / "artifacts").glob("*.whl")
    for environment in ("dev", "prod"):
        text = (REPO / "include" / "environments" / f"{environment}.yaml").read_text()
        named = set(re.findall(r"[\w.-]+-\$\{FITNESS_VERSION\}[\w.-]+\.whl", text))
        assert named == {wheel.name.replace("0.1.0", "${FITNESS_VERSION}")}
    files = [path for path in (REPO / "spark_jobs").rglob("*") if path.suffix in (".py", ".sql", ".json")]
    assert {str(path.relative_to(REPO)) for path in files} <= set(zipfile.ZipFile(wheel).namelist())
