"""What the stack decides without anything running: orders, sentences, what is stuck, what is written where."""

import configparser
import contextlib
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xmlrpc.client import Fault

import psutil
import pytest
from confluent_kafka import KafkaException
from tenacity import wait_none
from typer.testing import CliRunner

from local import cli, jars
from local.home import MARK, Home
from local.services import airflow, connect, hadoop_defaults, java, kafka, spark, spark_archive, stack, stream
from local.services.part import Launch, Part, PartFailed, base_environment, get
from local.services.parts import PARTS, STOP_ORDER
from local.services.supervisor import Supervisor, configuration, leftovers, port_owner, sweep
from local.services.watch import Sight, stuck
from local.workspace.states import Attempt, Run
from local.workspace.store import Job, Store
from tests.ports import free_port_base


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", free_port_base())


# Order ----------------------------------------------------------------------------------------------------------------


def test_every_part_is_stopped_exactly_once() -> None:
    stopped = [name for level in STOP_ORDER for name in level]
    assert sorted(stopped) == sorted(PARTS)


def test_no_part_stops_before_those_that_need_it() -> None:
    level = {name: number for number, names in enumerate(STOP_ORDER) for name in names}
    too_early = [
        (needed, name)
        for name, part in PARTS.items()
        for needed in part.needs
        if level[needed] < level[name] and needed != "airflow_api"
    ]
    assert too_early == []


def test_what_a_part_needs_exists_and_nothing_needs_itself_in_a_circle() -> None:
    settled: set[str] = set()
    while ready := {name for name, part in PARTS.items() if name not in settled and settled.issuperset(part.needs)}:
        settled |= ready
    assert settled == set(PARTS)


# Kafka ----------------------------------------------------------------------------------------------------------------


def test_topics_are_made_once_a_broker_that_has_just_begun_is_counted_in(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [KafkaException("fenced"), KafkaException("fenced"), None]

    def apply(settings: object) -> None:
        if trouble := answers.pop(0):
            raise trouble

    monkeypatch.setattr(kafka.topics, "apply", apply)
    monkeypatch.setattr(kafka, "wait_fixed", lambda seconds: wait_none())
    assert kafka.PART.settle is not None
    kafka.PART.settle(home)
    assert answers == []


# Kafka Connect --------------------------------------------------------------------------------------------------------


def test_the_api_of_connect_asks_for_a_password_that_only_the_owner_may_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "jar_folder", lambda group: Path("jars"))
    monkeypatch.setattr(connect, "java", lambda: "java")
    launch = connect.PART.prepare(home)
    settings = (launch.folder / "connect.properties").read_text()
    assert "rest.extension.classes=org.apache.kafka.connect.rest.basic.auth.extension.Basic" in settings
    assert f"-Djava.security.auth.login.config={connect.JAAS}" in launch.arguments
    passwords = launch.folder / re.findall(r'file="(.+)"', connect.JAAS.read_text())[0]
    assert passwords.read_text() == f"fitness={home.secrets['connect_password']}\n"
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
    shown = settings + " ".join(launch.arguments)
    assert [name for name, secret in home.secrets.items() if secret in shown] == []


def test_a_check_of_health_shows_who_it_is() -> None:
    class Echo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write((self.headers["Authorization"] or "nobody").encode())

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert get(server.server_port, "/") == (200, b"nobody")
        shown = get(server.server_port, "/", credentials=("Aladdin", "open sesame"))
        assert shown == (200, b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")  # as RFC 7617 has it
    finally:
        server.shutdown()
        server.server_close()


# supervisord ----------------------------------------------------------------------------------------------------------


def test_the_configuration_holds_every_part_and_no_secret(home: Home) -> None:
    text = configuration(home, PARTS.values())
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    programs = {section.removeprefix("program:") for section in parser.sections() if section.startswith("program:")}
    assert programs == set(PARTS) | {"watch"}
    assert [name for name, secret in home.secrets.items() if secret in text] == []
    assert parser["inet_http_server"]["port"] == f"127.0.0.1:{home.port('supervisor')}"


def test_a_percent_sign_in_the_home_survives_supervisords_expansion(tmp_path: Path) -> None:
    from supervisor.options import ServerOptions

    home = Home(tmp_path / "100%(here)s of it", 18000)
    file = tmp_path / "supervisord.conf"
    file.write_text(configuration(home, PARTS.values()))
    (home.path / "run").mkdir(parents=True)
    home.logs.mkdir()
    options = ServerOptions()
    options.realize(args=["-c", str(file)])
    logs = {
        process.name: process.stdout_logfile
        for group in options.process_group_configs
        for process in group.process_configs
    }
    assert logs["kafka"] == str(home.logs / "kafka.log")


# What is left ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def spawn() -> Iterator[Callable[[dict[str, str]], subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | environment, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()  # it ignores SIGTERM by now
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_a_sweep_ends_what_the_stack_started_even_if_it_does_not_listen_and_nothing_else(
    home: Home, spawn: Callable[[dict[str, str]], subprocess.Popen[bytes]]
) -> None:
    ours = spawn(home.environment)
    of_another_stack = spawn({MARK: str(home.path.parent / "other")})
    of_a_person = spawn({"FITNESS_HOME": str(home.path)})
    assert [process.pid for process in leftovers(home)] == [ours.pid]
    assert sweep(home, patience_seconds=0.5) == 1
    ours.wait(5)  # raises when it lives
    assert of_another_stack.poll() is None
    assert of_a_person.poll() is None


def test_a_sweep_never_ends_itself_or_its_parents(home: Home) -> None:
    code = "from local.home import Home; from local.services.supervisor import sweep; "
    code += "print(sweep(Home.from_environment()))"
    inner = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {code!r}]))"
    command = [sys.executable, "-c", inner]
    run = subprocess.run(command, env=os.environ | home.environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "0\n")


# Sentences ------------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_told_with_its_owner_and_what_to_do(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", home.port("kafka")))
        taken.listen()
        assert port_owner(home.port("kafka")) == f"process {os.getpid()} ({psutil.Process().name()})"
        with pytest.raises(PartFailed, match=rf"Port {home.port('kafka')}, which kafka needs, is taken by process"):
            stack._require_free_ports(home, ["kafka"])
    assert port_owner(home.port("kafka")) is None


def test_a_full_disk_is_told_before_anything_starts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "free_bytes", lambda folder: 300 * 1024**2)
    with pytest.raises(PartFailed, match=r"has 0\.3 GiB free; the stack needs at least 2\. Free some"):
        stack.up(home, lambda line: None)


@pytest.fixture
def javas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a Java of a version, which is the only one there is."""
    java.java_home.cache_clear()
    java._version.cache_clear()

    def install(version: str | None) -> Path:
        home = tmp_path / f"java-{version}"
        (home / "bin").mkdir(parents=True)
        if version:
            program = home / "bin" / "java"
            program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
            program.chmod(0o755)
        monkeypatch.setattr(java, "_candidates", lambda: iter([home]))
        return home

    return install


@pytest.mark.parametrize("version", ["17.0.15", "21.0.2", "21"])
def test_a_java_that_fits_is_taken(version: str, javas: Callable[..., Path]) -> None:
    home = javas(version)
    assert java.java_home.__wrapped__() == home


@pytest.mark.parametrize(
    ("version", "found"),
    [
        pytest.param("11.0.2", "found only .*java-11.0.2 is 11.0.2", id="too old"),
        pytest.param("1.8.0_392", "found only .* is 1.8.0_392", id="an old way to count"),
        pytest.param("25.0.1", "found only .* is 25.0.1", id="too new"),
        pytest.param(None, "none was found", id="no java"),
    ],
)
def test_a_java_that_does_not_fit_is_told_with_what_to_do(
    version: str | None, found: str, javas: Callable[..., Path]
) -> None:
    javas(version)
    with pytest.raises(PartFailed, match=f"need Java 17 to 21; {found}.*Install a JDK 17 or 21"):
        java.java_home.__wrapped__()


def test_a_missing_maven_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jars.shutil, "which", lambda name: None)
    with pytest.raises(jars.JarsMissing, match=r"Maven .* is needed once.*Install it"):
        jars.resolve()
    assert list(jars.jars_home().parent.glob("partial-*")) == []


def test_jars_that_came_only_in_part_are_not_taken_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def download(group: str, into: Path, label: str, say: object) -> None:
        into.mkdir()
        (into / "one.jar").touch()
        if group == "spark":
            raise jars.JarsMissing("the network went away")

    monkeypatch.setattr(jars, "_download", download)
    with pytest.raises(jars.JarsMissing):
        jars.resolve()
    assert not jars.jars_home().exists()


# Health ---------------------------------------------------------------------------------------------------------------

STARTED, NOW = 1_700_000_000.0, 1_700_000_100.0


@pytest.mark.parametrize(
    ("latest", "trouble"),
    [
        pytest.param(None, "no heartbeat yet", id="none"),
        pytest.param("2023-11-14T22:13:19+00:00", "no heartbeat since its start", id="of the process before"),
        pytest.param("2023-11-14T22:14:00.5+00:00", "its last heartbeat is 60 s old", id="stale"),
        pytest.param("2023-11-14T22:14:55+00:00", None, id="fresh"),
    ],
)
def test_a_heartbeat_counts_when_it_is_fresh_and_of_this_process(latest: str | None, trouble: str | None) -> None:
    assert airflow.heartbeat_trouble(latest, STARTED, NOW) == trouble


def _part(name: str, *needs: str) -> Part:
    return Part(
        name, prepare=lambda home: Launch([], {}, home.path), ready=lambda home, started_at: None, needs=needs,
        patience_seconds=60, stuck_seconds=20,
    )  # fmt: skip


TWO = {"base": _part("base"), "top": _part("top", "base")}
WELL = Sight(NOW - 1000)


@pytest.mark.parametrize(
    ("base", "top", "expected"),
    [
        pytest.param(WELL, WELL, [], id="all well"),
        pytest.param(WELL, Sight(NOW - 1000, NOW - 21), ["top"], id="in trouble for too long"),
        pytest.param(WELL, Sight(NOW - 1000, NOW - 19), [], id="in trouble for a moment"),
        pytest.param(WELL, Sight(NOW - 59, NOW - 58), [], id="still starting"),
        pytest.param(Sight(NOW - 1000, NOW - 5), Sight(NOW - 1000, NOW - 500), [], id="waits for what it needs"),
        pytest.param(None, Sight(NOW - 1000, NOW - 500), [], id="what it needs does not run"),
        pytest.param(Sight(NOW - 1000, NOW - 21), Sight(NOW - 1000, NOW - 21), ["base"], id="only the cause"),
    ],
)
def test_only_what_hangs_is_restarted(base: Sight | None, top: Sight, expected: list[str]) -> None:
    seen = {"top": top} | ({"base": base} if base else {})
    assert stuck(TWO, seen, NOW) == expected


def test_the_streams_log_is_that_of_its_newest_attempt_that_was_started(home: Home) -> None:
    assert stream.log_file(home) is None
    workspace = home.path / "workspace"
    workspace.mkdir(parents=True)
    store = Store(workspace / "workspace.db")
    for job_id, name in ((1, "fitness bpm stream (local)"), (2, "other")):
        store.save_job(Job(job_id, 0, {"name": name}))
        store.save_run(Run(10 * job_id, job_id, "JOB_RUN", name, {}, 0))
    for attempt_id, run_id, launch in ((101, 10, 0), (102, 10, 1), (103, 20, 0), (104, 10, 0)):
        store.save_attempt(Attempt(attempt_id, run_id, "a", 0, launch=launch))
        if attempt_id != 104:  # waits for its turn
            folder = workspace / "attempts" / str(attempt_id) / str(launch)
            folder.mkdir(parents=True)
            (folder / "spec.json").touch()  # need not be read
    log = workspace / "attempts" / "102" / "1" / "log"
    assert stream.log_file(home) == log
    store.connection.close()
    assert stream.log_file(home) == log


def test_a_stack_that_was_never_up_is_told_as_stopped_and_nothing_is_made(home: Home) -> None:
    state = stack.state(home)
    names = [
        "postgres",
        "kafka",
        "connect",
        "spark",
        "workspace",
        "airflow_api",
        "airflow_scheduler",
        "airflow_dag_processor",
        "airflow_triggerer",
        "bpm_stream",
        "simulator",
    ]
    assert {name: (state[name]["state"], state[name]["healthy"]) for name in names} == dict.fromkeys(
        names, ("stopped", False)
    )
    assert set(state) == {*names, "airflow"}
    assert {"user": "fitness", "password": None}.items() <= state["connect"].items()
    assert not home.path.exists()


@pytest.mark.parametrize("error", [ConnectionRefusedError(), RemoteDisconnected(), Fault(6, "SHUTDOWN_STATE")])
def test_when_supervisord_dies_on_the_way_down_the_rest_is_swept_away(
    error: Exception, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(self: Supervisor, name: str) -> None:
        raise error

    monkeypatch.setattr(Supervisor, "pid", lambda self: 1)
    monkeypatch.setattr(Supervisor, "stop", dead)
    monkeypatch.setattr(stack, "sweep", lambda home: 7)
    assert stack.down(home, lambda line: None) == 7


@pytest.mark.parametrize("command", [["down"], ["reset", "--yes"]])
def test_what_cannot_be_ended_is_told_in_a_sentence(
    command: list[str], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stays(home: Home) -> int:
        raise PartFailed("Process 7 cannot be ended.")

    home.lake.mkdir(parents=True)
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "umask", lambda mask: mask)  # the command's process is this one
    monkeypatch.setattr(stack, "sweep", stays)
    told = CliRunner().invoke(cli.app, command)
    assert (told.exit_code, told.stderr) == (1, "Process 7 cannot be ended.\n")
    assert home.lake.exists()


def test_a_reset_deletes_only_what_is_the_stacks(home: Home) -> None:
    (home.path / "lake").mkdir(parents=True)
    (home.path / "photos").mkdir()
    stack.reset(home, lambda line: None)
    assert {path.name for path in home.path.iterdir()} == {"photos", stack.LOCK}


def test_a_reset_lets_nobody_in_before_all_is_deleted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.lake.mkdir(parents=True)
    seen = []

    @contextlib.contextmanager
    def locked(home: Home, say: object) -> Iterator[None]:
        yield
        seen.append(home.lake.exists())

    monkeypatch.setattr(stack, "locked", locked)
    stack.reset(home, lambda line: None)
    assert seen == [False]


# Whose it is ----------------------------------------------------------------------------------------------------------


def modes(*paths: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


def an_open_home(home: Home) -> None:
    (home.lake / "silver").mkdir(parents=True, mode=0o755)
    (home.path / "secrets.json").write_text("{}")
    for path in (home.path, home.lake):
        path.chmod(0o755)


def test_a_home_that_was_open_is_closed_to_all_but_its_owner(home: Home) -> None:
    an_open_home(home)
    stack.close(home)
    assert modes(home.path, home.lake, home.path / "secrets.json") == [0o700, 0o700, 0o600]


def test_a_folder_that_holds_more_than_a_stack_stays_open_but_the_state_in_it_is_closed(home: Home) -> None:
    an_open_home(home)
    (home.path / "of somebody else").mkdir()
    stack.close(home)
    assert modes(home.path, home.lake) == [0o755, 0o700]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_account_that_postgresql_runs_as_may_pass_through_the_home_and_no_further(home: Home) -> None:
    an_open_home(home)
    (home.path / "postgres").mkdir()
    os.chown(home.path / "postgres", 65534, 65534)
    stack.close(home)
    assert modes(home.path, home.lake, home.path / "postgres") == [0o711, 0o700, 0o700]


def test_what_the_command_and_supervisord_make_is_their_owners_only(home: Home, tmp_path: Path) -> None:
    code = "from typer.testing import CliRunner; from local.cli import app; CliRunner().invoke(app, ['--version']);"
    code += f"open({str(tmp_path / 'made')!r}, 'w')"
    subprocess.run([sys.executable, "-c", code], check=True, umask=0o022)
    assert modes(tmp_path / "made") == [0o600]
    assert "\numask=077\n" in configuration(home, [])


def test_what_processes_leave_behind_lies_below_the_home(tmp_path: Path) -> None:
    assert base_environment(Home(Path("/h"), 18000))["TMPDIR"] == "/h/tmp"
    deep = Home(tmp_path / ("d" * 100), 18000)  # a socket's path would be too long
    assert base_environment(deep).get("TMPDIR") == os.environ.get("TMPDIR")
    assert f"-Djava.io.tmpdir={deep.temporary}" in java.common_flags(deep)


def test_what_was_left_behind_is_thrown_away_at_the_next_start(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.temporary / "spark-1").mkdir(parents=True)

    def far_enough(*_: object) -> None:
        raise PartFailed("far enough")

    monkeypatch.setattr(java, "java_home", lambda: None)
    monkeypatch.setattr(jars, "resolve", lambda say: None)
    monkeypatch.setattr(stack, "_require_free_ports", lambda home, names: None)
    monkeypatch.setattr(spark_archive, "ensure", lambda home, say: None)
    monkeypatch.setattr(Supervisor, "start", far_enough)
    with pytest.raises(PartFailed, match="far enough"):
        stack.up(home, lambda line: None)
    assert list(home.temporary.iterdir()) == []


# Java's archive of Spark's classes ------------------------------------------------------------------------------------


def test_a_stack_starts_without_an_archive_that_cannot_be_made(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(home: Home) -> Any:
        raise PartFailed("Spark did not start")

    monkeypatch.setattr(java, "ARCHIVES", tmp_path)
    monkeypatch.setattr(spark_archive.spark, "server_alone", breaks)
    said: list[str] = []
    spark_archive.ensure(home, said.append)
    assert "once" in said[0] and "takes longer: Spark did not start" in said[1]
    assert list(home.temporary.iterdir()) == []


def test_an_archive_that_is_there_is_not_made_again(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "ARCHIVES", tmp_path)
    java._archive(spark.archive_name()).touch()
    said: list[str] = []
    spark_archive.ensure(home, said.append)
    assert said == []


def test_spark_reads_hadoops_defaults_of_files_and_none_of_a_cluster(home: Home) -> None:
    first = Path(spark.settings(home)["spark.driver.extraClassPath"].split(":")[0])
    [hadoop] = (spark.spark_home() / "jars").glob("hadoop-client-api-*.jar")
    told, all_told = defaults(first), defaults(hadoop)
    assert told.items() <= all_told.items() and len(told) < len(all_told) / 10
    assert {"fs.file.impl", "fs.AbstractFileSystem.file.impl", "io.file.buffer.size", "hadoop.tmp.dir"} <= told.keys()
    assert not [name for name in told if name.startswith(("yarn.", "fs.s3a.", "ipc."))]


def defaults(jar: Path) -> dict[str, str | None]:
    with zipfile.ZipFile(jar) as read:
        files = [ElementTree.fromstring(read.read(name)) for name in hadoop_defaults.FILES]
    return {given.findtext("name", ""): given.findtext("value") for file in files for given in file.iter("property")}


def test_the_jar_of_hadoops_defaults_made_again_fits_the_archive_that_was_made_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hadoop_defaults, "ARCHIVES", tmp_path)
    make = hadoop_defaults.jar.__wrapped__
    made = make(spark.spark_home() / "jars")
    first = made.read_bytes(), made.stat().st_mtime_ns
    made.unlink()
    assert make(spark.spark_home() / "jars") == made
    assert (made.read_bytes(), made.stat().st_mtime_ns) == first


def test_without_hadoop_there_are_no_defaults_of_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no hadoop-client-api-\*\.jar"):
        hadoop_defaults.jar(tmp_path)
