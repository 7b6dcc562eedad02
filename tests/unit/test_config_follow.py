"""Following the configuration centre: what is news, and what is told of it. Files are real."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import audit
from shared.config.center import Center, Taken
from shared.config.follow import Follower
from shared.config.written import read_written
from shared.errors import ConfigError
from tests.unit.test_config_center import ENVIRON


class Told:
    """A follower of a file, and what it tells."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        written = read_written(ENVIRON, cwd=folder)
        self.file = folder / "center.yaml"
        self.follower = Follower(
            Center(written), file=self.file, variables={"PROMPT": "of a variable"}
        )
        self._caplog = caplog

    def look(self) -> list[tuple[str, Any]]:
        """The events of two looks at the same, each with its facts."""
        self._caplog.clear()
        self.follower.look_at_file()
        self.follower.look_at_file()
        self.follower.tell()
        return self._lines("shared.config.follow")

    def audited(self) -> list[tuple[str, Any]]:
        """What the last look left in the audit trail."""
        return self._lines("shared.audit.audit")

    def _lines(self, logger: str) -> list[tuple[str, Any]]:
        records = [r for r in self._caplog.records if r.name == logger]
        return [(r.getMessage(), r.__dict__["metadata"]) for r in records]

    @property
    def prompt(self) -> str:
        return self.follower.live.settings.model.system_prompt


@pytest.fixture
def told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.INFO)
    return Told(tmp_path, caplog)


def test_a_file_that_goes_away_is_told_once_and_holds_up_nothing(told: Told) -> None:
    told.follower.begin()
    facts = {"source": "file", "error": "FileNotFoundError"}
    assert [told.look(), told.look()] == [[("config.unread", facts)], []]

    told.file.write_text("model: {systemPrompt: 'a ${ENV:PROMPT}'}\n")
    names = ["model.system_prompt"]
    assert told.look() == [("config.changed", {"source": "file", "settings": names})]
    assert told.prompt == "a of a variable"

    told.file.unlink()
    assert [event for event, _ in told.look()] == ["config.unread"]
    assert told.prompt == "a of a variable"


def faults_at_start(follower: Follower) -> list[str]:
    with pytest.raises(ConfigError) as failed:
        follower.begin()
    return failed.value.problems


def test_nothing_is_built_while_the_file_is_away(told: Told) -> None:
    told.look()

    (fault,) = faults_at_start(told.follower)

    assert fault.startswith("CLAWDBOT_CONFIG_CENTER__FILE")
    assert fault.endswith(f"{told.file} can't be read: No such file or directory")


def test_nothing_is_built_of_a_file_that_can_not_be_used(told: Told) -> None:
    told.file.write_text("security: {allow_cidrs: {feishu: [192.0.2.0/24]}, qsp: 9}\n")
    told.look()

    (fault,) = faults_at_start(told.follower)

    assert f"{told.file} line 1) is not a setting" in fault


def test_what_the_file_needs_may_be_in_a_redis_that_is_away(told: Told) -> None:
    told.file.write_text("model: {chain: [third]}\n")
    told.look()
    told.follower.miss("redis", ConnectionError())

    faults = faults_at_start(told.follower)

    assert "third" in faults[0]
    assert faults[-1].startswith("Redis can't be read (ConnectionError)")


def test_nothing_is_built_of_what_redis_says_and_can_not_be_used(told: Told) -> None:
    told.file.write_text("")
    told.look()
    told.follower.take_hash({"security.qps": "many", "security.allow_cidrs.feishu": "192.0.2.0/24"})

    faults = faults_at_start(told.follower)

    assert faults[0] == "security.qps (Redis): must be a whole number"
    assert faults[-1].endswith("clawdbot config unset NAME")


def test_who_was_built_without_redis_is_late_once_it_says_what_can_be_used(told: Told) -> None:
    told.file.write_text("")
    told.look()
    told.follower.miss("redis", ConnectionError())
    told.follower.begin()
    assert not told.follower.is_whole
    assert not told.follower.is_late

    told.follower.take_hash({"security.qps": "many"})
    assert not told.follower.is_late
    told.follower.take_hash({"port": "1"})

    assert told.follower.is_late
    assert told.follower.waits_for_restart


def test_a_file_that_is_replaced_or_whose_folder_is_swapped_is_seen(
    told: Told, tmp_path: Path
) -> None:
    for version, prompt in (("..v1", "one"), ("..v2", "two")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "center.yaml").write_text(f"model: {{system_prompt: {prompt}}}\n")
    (tmp_path / "..data").symlink_to("..v1")
    told.file.symlink_to("..data/center.yaml")
    told.look()
    assert told.prompt == "one"

    (tmp_path / "..tmp").symlink_to("..v2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")  # as Kubernetes does
    told.look()
    assert told.prompt == "two"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model: [\n", "center.yaml line 2 is not YAML"),
        ("model: {system_promt: x}\n", "line 1) is not a setting; the nearest known name is model"),
        ("security: {qps: none}\n", "line 1): must be a whole number"),
        ("[" * 20_000, "is nested too deeply"),
        ("model: {system_prompt: '${ENV:NOWHERE}'}", "needs the environment variable NOWHERE"),
    ],
    ids=["yaml", "name", "value", "deep", "variable"],
)
def test_a_file_that_can_not_be_used_is_refused_once_and_the_old_values_hold(
    told: Told, text: str, problem: str
) -> None:
    told.file.write_text("model: {system_prompt: good}\n")
    told.look()
    told.follower.begin()

    told.file.write_text(text)
    ((event, facts),) = told.look()

    assert event == "config.refused"
    assert problem in " ".join(facts["problems"])
    assert told.look() == []
    assert told.prompt == "good"


def test_a_file_that_is_being_written_opens_no_door_for_a_moment(told: Told) -> None:
    whole = "security: {allow_cidrs: {feishu: [192.0.2.0/24]}}\n"
    told.file.write_text(whole)
    told.look()
    told.follower.begin()
    held = told.follower.live.settings

    for cut in ("", "# of some\n", whole):  # an editor truncates it, and writes it in pieces
        told.file.write_text(cut)
        told.follower.look_at_file()
        assert told.follower.live.settings is held

    told.file.write_text("")
    told.look()
    assert told.follower.live.settings != held


def test_a_process_forked_while_a_change_is_taken_takes_it_too(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.follower.begin()
    take, children = Center.take, list[Follower]()

    def fork_and_take(center: Center, *arguments: Any) -> Taken:
        children.append(copy.deepcopy(told.follower))
        return take(center, *arguments)

    monkeypatch.setattr(Center, "take", fork_and_take)
    told.file.write_text("security: {qps: 9}\n")
    told.look()
    monkeypatch.undo()

    (child,) = children
    child.look_at_file()
    assert child.live.settings.security.qps == 9


def test_a_setting_that_needs_a_restart_is_told_once_by_its_name(told: Told) -> None:
    told.file.write_text("port: 1\n")
    told.look()
    told.follower.begin()

    told.file.write_text("port: 2\n")
    facts = {"source": "file", "settings": ["port"]}
    assert [told.look(), told.look()] == [[("config.restart_needed", facts)], []]
    told.file.write_text("port: 3\nhost: h\n")
    assert told.look() == [("config.restart_needed", {**facts, "settings": ["host"]})]


def test_what_was_refused_is_looked_at_again_when_the_other_place_changes(told: Told) -> None:
    values = {"model.chain": "third,default"}
    told.follower.take_hash(values)
    assert told.follower.refused["redis"]

    told.file.write_text("models: {third: {endpoint: 'https://third.example/v1'}}\n")
    told.look()
    told.follower.take_hash(values)

    assert told.follower.live.settings.model.chain == ("third", "default")


def test_the_log_level_follows(told: Told) -> None:
    told.file.write_text("log: {level: error}\n")
    told.look()
    assert logging.getLogger().level == logging.ERROR


def test_a_new_value_of_a_secret_is_never_told(told: Told) -> None:
    told.follower.begin()
    told.file.write_text("service: {auth: {akSecret: hush-new}}\n")

    names = ["service.auth.ak_secret"]
    assert told.look() == [("config.restart_needed", {"source": "file", "settings": names})]
    ((event, facts),) = told.audited()
    assert (event, facts["settings"], facts["restart_needed"]) == ("config.taken", names, names)
    assert "hush" not in str(facts)


@pytest.fixture
def audited(told: Told) -> Iterator[Told]:
    """With the audit trail as every program has it."""
    audit.configure("test")
    yield told
    for name in (audit.REFUSALS, audit.ACTIONS):
        logging.getLogger(f"shared.audit.{name}").setLevel(logging.NOTSET)


def test_a_change_is_in_the_audit_trail_also_one_that_silences_the_log(audited: Told) -> None:
    audited.file.write_text("security: {qps: 9}\n")
    audited.look()
    facts = {"log": "audit", "source": "file"}
    taken = {**facts, "at_start": True, "settings": ["security.qps"], "restart_needed": []}
    assert audited.audited() == [("config.taken", taken)]
    audited.follower.begin()

    audited.file.write_text("log: {level: error}\nport: 1\n")
    assert audited.look() == []
    names = ["log.level", "port", "security.qps"]
    taken = {**facts, "at_start": False, "settings": names, "restart_needed": ["port"]}
    assert audited.audited() == [("config.taken", taken)]

    audited.file.write_text("log: {level: error}\nport: 2\n")
    audited.look()
    taken["settings"] = ["port"]
    assert audited.audited() == [("config.taken", taken)], "not in force before nor after"
    audited.look()
    assert audited.audited() == []


def test_a_change_that_is_refused_is_in_the_audit_trail(audited: Told) -> None:
    audited.follower.begin()
    audited.file.write_text("security: {qps: none}\n")
    audited.look()

    ((event, facts),) = audited.audited()

    assert (event, facts["source"]) == ("config.not_taken", "file")
    assert "must be a whole number" in " ".join(facts["problems"])


def test_what_a_forked_process_forgets_is_in_no_audit_trail(audited: Told) -> None:
    audited.follower.begin()
    audited.follower.take_hash({"security.qps": "9"})
    audited.follower.forget()
    audited.file.write_text("")
    audited.look()

    assert audited.audited() == []
