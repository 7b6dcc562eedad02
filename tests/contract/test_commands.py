"""Every command of the console script, also those to come, keeps the habits of all."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from shared.cli import cli

#: Verbs of commands after which something is gone for good.
DESTRUCTIVE = {
    *("archive", "clear", "delete", "drop", "erase", "forget", "purge", "remove", "reset"),
    *("revoke", "wipe"),
}
EXAMPLE = re.compile(r"^ *Example: (clawdbot.*)$", re.MULTILINE)


def commands(group: click.Group, way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    yield way
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, (*way, name))
        else:
            yield (*way, name)


def find(way: tuple[str, ...]) -> click.Command:
    command: click.Command = cli
    for name in way:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


def resolved(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The command that `words` name, and what is left for it."""
    way: tuple[str, ...] = ()
    while isinstance(find(way), click.Group) and words and not words[0].startswith("-"):
        way, words = (*way, words[0]), words[1:]
    return way, words


def options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


ALL = list(commands(cli))
#: Hands everything on to Flower's own command.
FOREIGN = {("flower",)}
LEAVES = [way for way in ALL if not isinstance(find(way), click.Group) and way not in FOREIGN]
ASKING = [way for way in LEAVES if "--yes" in options(find(way))]


def named(way: tuple[str, ...]) -> str:
    return " ".join(way) or "clawdbot"


def test_there_are_commands() -> None:
    assert ("dead", "replay") in LEAVES
    assert ("dead",) in ALL


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("way", ALL, ids=named)
def test_help_shows_an_example_that_can_be_copied(way: tuple[str, ...], flag: str) -> None:
    shown = CliRunner().invoke(cli, [*way, flag])

    assert shown.exit_code == 0
    examples = EXAMPLE.findall(shown.output)
    assert examples, f"the docstring of `{named(way)}` has no line `Example: clawdbot …`"
    for example in examples:
        assert f"Example: {example}" in (find(way).help or ""), (
            "the line is too long for a terminal"
        )


@pytest.mark.parametrize("way", ALL, ids=named)
def test_the_example_is_a_right_use_of_the_command(way: tuple[str, ...]) -> None:
    for example in EXAMPLE.findall(find(way).help or ""):
        shown, words = resolved(shlex.split(example)[1:])

        assert shown[: len(way)] == way
        find(shown).make_context(named(shown), words).close()


@pytest.mark.parametrize("way", ALL, ids=named)
def test_the_first_sentence_says_what_it_is_for(way: tuple[str, ...]) -> None:
    assert find(way).get_short_help_str()


@pytest.mark.parametrize("way", LEAVES, ids=named)
def test_every_command_speaks_json(way: tuple[str, ...]) -> None:
    assert "--json" in options(find(way))


@pytest.mark.parametrize("way", LEAVES, ids=named)
def test_every_option_is_explained(way: tuple[str, ...]) -> None:
    silent = [p.opts for p in find(way).params if isinstance(p, click.Option) and not p.help]
    choices = [p.opts for p in find(way).params if isinstance(p.type, click.Choice)]

    assert [names for names in silent if names not in choices] == []


@pytest.mark.parametrize("way", [w for w in LEAVES if w[-1] in DESTRUCTIVE], ids=named)
def test_what_destroys_takes_a_yes(way: tuple[str, ...]) -> None:
    assert "--yes" in options(find(way))


@pytest.mark.parametrize("way", ASKING, ids=named)
def test_what_takes_a_yes_asks_by_the_one_helper(way: tuple[str, ...]) -> None:
    """`workers.ops.habits.confirm`, whose refusal and question have tests of their own."""
    callback = find(way).callback

    assert callback is not None
    assert "confirm" in callback.__code__.co_names


@pytest.mark.parametrize("way", LEAVES, ids=named)
def test_wrong_usage_ends_with_2(way: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, [*way, "--no-such-option"]).exit_code == 2
