"""The supervisor that keeps the stack alive, with harmless programs in the programs' places."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from compose.local import processes, redis_server, sockets, supervisor
from compose.local.problems import StackError
from compose.local.programs import Program
from compose.local.readiness import Readiness, wait_until_ready
from compose.local.supervisor import State, Supervisor
from compose.local.watcher import STUCK_S, Watcher
from shared.state import keys

WAIT_S = 30.0
SLEEPER = ("sleep", "1000")
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A .run in a folder with a long, awkward name. Whatever is started there is ended."""
    folder = tmp_path / f"a b; c # d 100% 机器人 {'long' * 20}" / ".run"
    (folder / "logs").mkdir(parents=True)
    yield folder
    assert processes.end(processes.of_stack(folder), grace_s=WAIT_S) == []


@pytest.fixture
def socket_folder(run: Path) -> Iterator[Path]:
    folder = sockets.make_folder(run)
    yield folder
    sockets.remove_folder(folder, run)


def launch(run: Path, socket_folder: Path, *programs: Program) -> Supervisor:
    """A supervisor with every program started and running."""
    (run / "supervisord.conf").write_text(supervisor.config_text(programs), "utf-8")
    launched = supervisor.launch(run, socket_folder, os.environ)
    for program in programs:
        launched.start(program.name)
    return launched


def running(of: Supervisor) -> dict[str, int]:
    """Program → pid, once all run."""
    assert processes.wait_for(lambda: all(s.is_running for s in of.states()), timeout_s=WAIT_S)
    return {state.name: state.pid for state in of.states()}


def test_killed_program_is_started_again(run: Path, socket_folder: Path) -> None:
    launched = launch(run, socket_folder, Program("sleeper", SLEEPER, order=1))
    before = running(launched)["sleeper"]

    os.kill(before, signal.SIGKILL)

    assert processes.wait_for(lambda: running(launched)["sleeper"] != before, timeout_s=WAIT_S)


def test_every_process_is_found_by_its_mark_and_none_is_left_after_the_shutdown(
    run: Path, socket_folder: Path
) -> None:
    launched = launch(
        run,
        socket_folder,
        Program("one", SLEEPER, order=1),
        Program("two", SLEEPER, order=2),
    )
    pids = {launched.pid(), *running(launched).values()}

    assert pids == set(processes.of_stack(run))
    launched.shutdown()

    assert processes.wait_for(lambda: not processes.living(pids), timeout_s=WAIT_S)
    assert processes.wait_for(lambda: not processes.of_stack(run), timeout_s=WAIT_S)


def test_programs_stop_last_started_first(run: Path, socket_folder: Path) -> None:
    note = "trap 'echo {name} >>stopped; exit 0' TERM; while :; do sleep 0.05; done"
    programs = [
        Program(name, ("sh", "-c", note.format(name=name)), order=order)
        for name, order in (("redis", 10), ("a", 40), ("b", 40), ("ingress", 80))
    ]
    launched = launch(run, socket_folder, *programs)
    running(launched)

    launched.shutdown()

    assert processes.wait_for(lambda: not processes.of_stack(run), timeout_s=WAIT_S)
    first, *middle, last = (run.parent / "stopped").read_text().split()
    assert (first, sorted(middle), last) == ("ingress", ["a", "b"], "redis")


def test_orphans_of_a_killed_supervisor_are_found_and_ended(run: Path, socket_folder: Path) -> None:
    launched = launch(
        run, socket_folder, Program("stubborn", ("python3", "-c", IGNORES_SIGTERM), order=1)
    )
    pid = running(launched)["stubborn"]
    os.kill(launched.pid(), signal.SIGKILL)
    assert processes.wait_for(lambda: processes.of_stack(run) == [pid], timeout_s=WAIT_S)

    assert processes.end([pid], grace_s=0.2) == []
    assert processes.of_stack(run) == []


def test_program_that_keeps_ending_is_told_with_the_end_of_its_log(
    run: Path, socket_folder: Path
) -> None:
    crash = Program("crasher", ("sh", "-c", "echo the reason; exit 3"), order=1)
    launched = launch(run, socket_folder, crash)

    with pytest.raises(StackError, match=r"(?s)not running: crasher.*crasher\.log:\n  the reason"):
        wait_until_ready(Readiness(launched, "http://127.0.0.1:9/ready", run / "logs"))


def test_nobody_behind_the_socket_is_told(socket_folder: Path) -> None:
    nobody = Supervisor(socket_folder / supervisor.SOCKET_NAME)

    assert not nobody.answers()
    with pytest.raises(StackError, match="does not answer"):
        nobody.states()


def test_embedded_redis_serves_from_an_awkward_folder(run: Path, socket_folder: Path) -> None:
    server, config = redis_server.find_server(), run / "redis.conf"
    socket = socket_folder / "redis.sock"
    redis_server.write_config(config, data=run / "redis", socket=socket)
    environ = {**os.environ, "PATH": f"{server.parent}:{os.environ['PATH']}"}
    program = Program("redis", (server.name, ".run/redis.conf"), order=1)
    (run / "supervisord.conf").write_text(supervisor.config_text([program]), "utf-8")
    launched = supervisor.launch(run, socket_folder, environ)
    launched.start("redis")

    url = redis_server.url(socket)
    redis_server.wait_until_ready(url, timeout_s=WAIT_S)

    with redis.Redis.from_url(url, decode_responses=True) as client:
        settings = client.config_get("append*", "maxmemory-policy")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
        assert settings["maxmemory-policy"] == "noeviction"
    assert running(launched)["redis"] in processes.of_stack(run)
    assert shutil.which(server.name, path=str(server.parent)) is not None


def test_who_is_stopped_alone_is_not_waited_for_as_long_as_work_may_take(
    run: Path, socket_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_STOP_GRACE_S", 0.2)
    stuck = Program("stuck", ("python3", "-c", IGNORES_SIGTERM), order=1, stop_wait_s=600)
    launched = launch(run, socket_folder, stuck)
    pid = running(launched)["stuck"]

    launched.stop("stuck")

    assert processes.living([pid]) == []
    assert [state.label for state in launched.states()] == ["STOPPED"]
    launched.stop("stuck")
    launched.restart("stuck")
    assert running(launched)["stuck"] != pid
    launched.stop("stuck")


def test_stuck_worker_is_restarted_and_its_busy_neighbour_is_not(
    run: Path, socket_folder: Path, redis_client: redis.Redis
) -> None:
    names = ("worker-process", "worker-push")
    launched = launch(run, socket_folder, *(Program(name, SLEEPER, order=40) for name in names))
    before = running(launched)
    watcher = Watcher(launched, redis_client, "host")
    for queue in ("process", "push"):
        redis_client.lpush(queue, "hint")
    redis_client.hset(keys.ACTIVE, "push@host", "1000")

    assert watcher.look(0.0) == []
    redis_client.hset(keys.ACTIVE, "push@host", "2000")
    assert watcher.look(STUCK_S - 1) == []
    assert watcher.look(STUCK_S) == ["worker-process"]

    assert processes.wait_for(
        lambda: running(launched)["worker-process"] != before["worker-process"], timeout_s=WAIT_S
    )
    assert running(launched)["worker-push"] == before["worker-push"]
    assert watcher.look(STUCK_S + 1) == []


def test_without_redis_no_worker_is_blamed(run: Path, socket_folder: Path) -> None:
    launched = launch(run, socket_folder, Program("worker-process", SLEEPER, order=40))
    running(launched)
    nowhere = redis.Redis(
        unix_socket_path=str(socket_folder / "nothing.sock"), retry=Retry(NoBackoff(), 0)
    )
    watcher = Watcher(launched, nowhere, "host")

    assert watcher.look(0.0) == []
    assert watcher.look(STUCK_S) == []


def test_states_tell_a_stopped_program_from_a_running_one() -> None:
    assert State("a", "RUNNING", 1, 0, "").is_running
    assert not State("a", "BACKOFF", 0, 0, "").is_running
