import json
import stat
from pathlib import Path

import pytest

from local.home import MARK, PORT_OFFSETS, Home


def test_ports_follow_from_the_base(tmp_path: Path) -> None:
    home = Home(tmp_path, 20000)
    assert {part: home.port(part) for part in ("airflow_api", "workspace", "kafka", "connect", "postgres")} == {
        "airflow_api": 20080,
        "workspace": 20077,
        "kafka": 20092,
        "connect": 20083,
        "postgres": 20032,
    }


def test_no_two_parts_share_a_port() -> None:
    assert len(set(PORT_OFFSETS.values())) == len(PORT_OFFSETS)


@pytest.mark.parametrize("base", ["80", "65500", "many", "-1"])
def test_a_port_base_that_cannot_be_is_refused_with_a_sentence(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITNESS_PORT_BASE", base)
    with pytest.raises(ValueError, match="FITNESS_PORT_BASE must be a number from 1024"):
        Home.from_environment()


def test_secrets_are_made_once_and_only_the_owner_may_read_them(tmp_path: Path) -> None:
    first = Home(tmp_path / "home", 18000).secrets
    assert Home(tmp_path / "home", 18000).secrets == first
    assert stat.S_IMODE((tmp_path / "home" / "secrets.json").stat().st_mode) == 0o600


def test_a_home_of_an_earlier_version_gets_the_secrets_it_lacks_and_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"postgres_password": "old"}))
    secrets = Home(tmp_path, 18000).secrets
    assert secrets["postgres_password"] == "old"
    assert secrets["capture_password"]


def test_no_secret_is_in_what_every_process_sees(tmp_path: Path) -> None:
    home = Home(tmp_path, 18000)
    assert not set(home.secrets.values()) & set(home.environment.values())
    assert home.environment[MARK] == str(tmp_path)
