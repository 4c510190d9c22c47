"""Which user, domain or mailbox a command means, and where it is on disk."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from attrs import frozen

from mailserver.cli.configuration import server_configuration
from mailserver.config import Config
from mailserver.domains.domain import Tree
from mailserver.domains.naming import local_key, parse_mailbox
from mailserver.domains.tree import directory_of, load_tree
from mailserver.domains.users import spell_user_name
from mailserver.interfaces import Account
from mailserver.mailboxes import walking
from mailserver.mailboxes.filenames import UniqueNames
from mailserver.model.address import Address

__all__ = ["Mailbox", "Place", "locate", "mailbox_of", "owned", "parse"]

T = TypeVar("T")


@frozen
class Place:
    """The user meant, how the file spells the name, and where the file is."""

    named: Address
    spelled: str
    directory: Path
    tree: Tree


@frozen
class Mailbox:
    """A mailbox on disk. It need not exist."""

    account: Account
    directory: Path
    names: UniqueNames
    config: Config


def parse(read: Callable[[str], T], text: str) -> T:
    """What ``read`` makes of an argument; what it raises is told."""
    try:
        return read(text)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def locate(context: click.Context, address: str) -> Place:
    """A user of a domain hosted here, whether or not it exists."""
    domains = server_configuration(context).domains
    named = parse(parse_mailbox, address)
    directory = directory_of(domains, named.domain)
    if directory is None:
        raise click.ClickException(f"{named.domain} is not hosted here; to host it: mailctl domain add")
    tree, _ = load_tree(domains)
    return Place(named, spell_user_name(named), directory, tree)


def mailbox_of(context: click.Context, address: str) -> Mailbox:
    """The mailbox of a user who exists, or whose mailbox was left behind."""
    config = server_configuration(context)
    named = parse(parse_mailbox, address)
    tree, _ = load_tree(config.domains)
    hosted = tree.domains.get(named.domain)
    found = hosted.find(local_key(named)) if hosted else None
    account = found if isinstance(found, Account) else Account(named.key)
    directory = walking.directory_of(config.state / "mail", account.name)
    if not isinstance(found, Account) and not directory.is_dir():
        raise click.ClickException(f"{named} does not exist")
    return Mailbox(account, directory, UniqueNames(config.hostname, time.time), config)


@contextmanager
def owned(config: Config) -> Iterator[None]:
    """Make files as the owner of the state directory: the server must be able to use what root made."""
    if os.geteuid() != 0 or not config.state.is_dir():
        yield
        return
    owner = config.state.stat()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
