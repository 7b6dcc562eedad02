"""`clawdbot keys …`: which keys the models have, in with a new one, out with an old one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from shared.errors import KeyRefusedError, TaskError
from shared.state.key_ring import KeyRing
from workers.keys.pair import KeyPair
from workers.ops.context import show_json
from workers.ops.habits import confirm, doing, json_option, yes_option
from workers.ops.key_desk import VERIFY_TIMEOUT_S, Desk, desk_of
from workers.ops.key_rows import row_of, rows_of, show_row
from workers.ops.made_pair import made_pair
from workers.ops.pairs import from_file, from_stdin, read_pair

Command = Callable[..., None]


def _common(command: Command) -> Command:
    return click.option(
        "--model", "name", default="default", show_default=True, help="Whose keys."
    )(json_option(command))


def _takes_pair(command: Command) -> Command:
    command = click.option("--generate", is_flag=True, help="Pair: keys.generate_command.")(command)
    command = click.option("--file", type=click.Path(path_type=Path), help="Pair: a file.")(command)
    return click.option("--stdin", is_flag=True, help="Pair: standard input.")(command)


@click.group()
def keys() -> None:
    """List, add, rotate, archive or verify the models' keys.

    A new pair is JSON, {"akId": …, "akSecret": …}, or the secret alone. No command prints a secret.

    Example: clawdbot keys list
    """


@keys.command("list")
@_common
def list_keys(name: str, as_json: bool) -> None:
    """One line a key: fingerprint, state, AccessKey id, until when.

    Example: clawdbot keys list --model default
    """
    with desk_of(name) as desk:
        rows = rows_of(desk)
    if as_json:
        show_json(rows)
        return
    for row in rows:
        show_row(row)
    if not rows:
        click.echo(f"the model {name} has no key")


@keys.command()
@_takes_pair
@_common
def add(name: str, as_json: bool, stdin: bool, file: Path | None, generate: bool) -> None:
    """Put a backup key beside the active one, valid for keys.backup_days.

    Example: clawdbot keys add --file new-pair.json
    """
    with desk_of(name, seals=True) as desk:
        given = _given(desk, stdin, file, generate)
        pair, ring = (given, desk.add(given)) if given else made_pair(desk)
    _tell(ring, pair.id, as_json)


@keys.command()
@_takes_pair
@_common
def rotate(name: str, as_json: bool, stdin: bool, file: Path | None, generate: bool) -> None:
    """Make a new key the active one, once a call with it has worked.

    The new one is given, or is the backup of `clawdbot keys add`, or comes from
    keys.generate_command; that one waits as the next key until the call has worked. The old one is
    accepted for keys.overlap_days, then archived.

    Example: clawdbot keys rotate --file new-pair.json
    """
    with desk_of(name, seals=True) as desk:
        given = _given(desk, stdin, file, generate)
        pair = given or (None if generate else desk.waiting())
        if pair is None:
            pair, _ = made_pair(desk, least_days=desk.settings.keys.primary_days)
        if fault := desk.fault_of(pair):
            raise click.ClickException(_not_rotated(pair.id, fault, waits=given is None))
        ring = desk.activate(pair, must_wait=given is None)
    _tell(ring, pair.id, as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@yes_option
@_common
def archive(key_id: str, yes: bool, name: str, as_json: bool) -> None:
    """Take a key out of use at once and delete its secret.

    Example: clawdbot keys archive 3f2a9c0b --yes
    """
    with desk_of(name) as desk:
        entry = desk.store.read().ring.find(key_id)
        confirm(f"delete the secret of {key_id} ({entry.state if entry else 'unknown'})?", yes)
        ring = desk.archive(key_id)
    _tell(ring, key_id, as_json)


@keys.command()
@_common
def verify(name: str, as_json: bool) -> None:
    """Make a call of one token with every valid key.

    Exit code 1 when one of them doesn't work.

    Example: clawdbot keys verify --json
    """
    with desk_of(name) as desk:
        faults = {}
        for pair in desk.valid():
            doing(f"calling with {pair.id}, for {VERIFY_TIMEOUT_S:g} s at most")
            faults[pair.id] = desk.fault_of(pair)
            if not as_json:
                click.echo(f"{pair.id}  {faults[pair.id] or 'works'}")
    if as_json:
        show_json(
            [{"id": key, "works": not why, "why": str(why or "")} for key, why in faults.items()]
        )
    if not faults:
        raise click.ClickException(f"the model {name} has no valid key")
    if any(faults.values()):
        raise SystemExit(1)


@keys.command()
@_common
def reseal(name: str, as_json: bool) -> None:
    """Seal every pair with the first master key, so that the others may go.

    Example: clawdbot keys reseal
    """
    with desk_of(name, seals=True) as desk:
        ring = desk.reseal()
    if as_json:
        show_json([row_of(entry) for entry in ring.live])
    else:
        click.echo(f"pairs sealed anew: {len(ring.live)}")


def _given(desk: Desk, stdin: bool, file: Path | None, generate: bool) -> KeyPair | None:
    if sum((stdin, file is not None, generate)) > 1:
        raise click.UsageError("give one of --stdin, --file and --generate")
    if not stdin and file is None:
        return None
    text = from_stdin() if file is None else from_file(file)
    return read_pair(text, needs_id=desk.needs_id)


def _not_rotated(key_id: str, fault: TaskError, *, waits: bool) -> str:
    """What a rotation says that ended with `fault`. waits: the pair is the ring's next key."""
    failed = f"a call with the new key {key_id} failed"
    if not waits:
        return f"{failed}, so nothing was changed: {fault}"
    if isinstance(fault, KeyRefusedError):
        return (
            f"the new key {key_id} is refused: {fault}. It waits as the next key all the same, for "
            "a cloud may take a minute to know a new pair: run `clawdbot keys rotate` again. If it "
            f"is refused still, run `clawdbot keys archive {key_id}` and revoke it in the cloud"
        )
    return f"{failed}: {fault}. It waits as the next key; run `clawdbot keys rotate` again"


def _tell(ring: KeyRing, key_id: str, as_json: bool) -> None:
    """What became of the key that the command was about."""
    row = next(row_of(entry) for entry in ring.entries if entry.id == key_id)
    if as_json:
        show_json(row)
    else:
        show_row(row)
