"""`rankcast keys`: who may use a server. A file of hashes, which a running server follows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from rankcast.cli.options import USAGE, Failure, keys_option, need_extra, redis_option
from rankcast.cli.show import clean
from rankcast.cli.status import table_console
from rankcast.web.keyring import MAX_NAME, ApiKey, Scope, chosen, draw, editing, read_keys, utc_text

#: What an ordinary client needs.
DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys.

    They stand as hashes in a file, one a line. A server that was started with that file follows it: a
    key counts from its creation to its revocation, without a restart.
    """


def _name(context: click.Context, param: click.Parameter, name: str) -> str:
    if not (0 < len(name) <= MAX_NAME and name.isprintable() and name.strip() == name):
        raise click.BadParameter(f"a name has 1 to {MAX_NAME} printable characters", context, param)
    return name


@keys.command()
@click.argument("name", callback=_name)
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    help="What it may do, several times: submit (run and cancel), read (see its own jobs), admin (all of "
    "that with everybody's). Default: submit and read.",
)
@keys_option(required=True)
def create(*, name: str, scopes: Sequence[str], keys: Path) -> None:
    """Make a key and print it: on stdout, once, and nothing else there.

    NAME says whose it is. The file is made if there is none.
    """
    key, text = draw(name, map(Scope, scopes or DEFAULT_SCOPES))
    with editing(keys) as known:
        is_first = not known
        if any(each.name == name and each.revoked is None for each in known):
            raise Failure(
                f"there is a key {name!r} in {keys}; revoke it first, or choose another name", USAGE
            )
        known.append(key)
    click.echo(text)
    click.echo(
        f"key {key.id} ({clean(name)}) may {_scopes(key)}. This is the only time that it is shown.", err=True
    )
    click.echo("Clients take it from RANKCAST_KEY, or send it as `Authorization: Key rk_…`.", err=True)
    if is_first:
        click.echo(
            f"Start the server with --keys {keys}. One that runs without keys stays open until then.",
            err=True,
        )


@keys.command("list")
@click.option("--json", "is_json", is_flag=True, help="JSON, for programs.")
@keys_option(required=True)
@redis_option("Redis with the jobs: it knows when each key was used last.")
def list_keys(*, is_json: bool, keys: Path, redis_url: str | None) -> None:
    """Show all keys, the revoked ones too, and when each was used last."""
    known = read_keys(keys)
    used = None if redis_url is None else _uses(redis_url)
    if is_json:
        click.echo(json.dumps([_as_json(key, used) for key in known], ensure_ascii=False))
        return
    if known:
        table_console().print(_table(known, used))
    if used is None:
        click.echo("When each was used last is known to Redis: --redis-url, or RANKCAST_REDIS_URL.", err=True)
    if not any(key.revoked is None for key in known):
        click.echo(f"No key in {keys} lets anybody in.", err=True)


@keys.command()
@click.argument("id_or_name")
@keys_option(required=True)
def revoke(*, id_or_name: str, keys: Path) -> None:
    """Take a key's right away, at once and for good. Its jobs go on, and an admin's key sees them."""
    with editing(keys) as known:
        key = chosen(known, id_or_name)
        if key is None:
            raise Failure(f"there is no key {id_or_name!r} in {keys}", USAGE)
        if key.revoked is not None:
            raise Failure(f"key {key.id} ({clean(key.name)}) was revoked at {key.revoked}", USAGE)
        known[known.index(key)] = replace(key, revoked=utc_text(datetime.now(UTC)))
        is_last = all(each.revoked is not None for each in known)
    click.echo(f"key {key.id} ({clean(key.name)}) is revoked")
    if is_last:
        click.echo("It was the last: nobody is let in until there is another.", err=True)


def _uses(redis_url: str) -> Mapping[str, datetime]:
    """When each key was used last."""
    need_extra("web", "redis")
    # Here and not on top: keys can be made where redis is not installed.
    from rankcast.tasks.connect import connect  # noqa: PLC0415
    from rankcast.tasks.keyuse import KeyUse  # noqa: PLC0415

    with connect(redis_url) as client:
        return KeyUse(client).all()


def _scopes(key: ApiKey) -> str:
    return " and ".join(scope for scope in Scope if scope in key.scopes)


def _table(known: Sequence[ApiKey], used: Mapping[str, datetime] | None) -> Table:
    table = Table("name", "id", "scopes", "created", "last used", "revoked", box=None, header_style="bold")
    for key in known:
        last = "?" if used is None else _told(used, key) or "never"
        cells = (key.name, key.id, ", ".join(sorted(key.scopes)), key.created, last, key.revoked or "")
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


def _told(used: Mapping[str, datetime], key: ApiKey) -> str | None:
    return utc_text(used[key.id]) if key.id in used else None


def _as_json(key: ApiKey, used: Mapping[str, datetime] | None) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created": key.created,
        "last_used": None if used is None else _told(used, key),
        "revoked": key.revoked,
    }
