"""One hosted domain: its users, its aliases, and who is found in it; and all of them.

A name means, in this order:

- the user or the alias of that name; no name is both;
- the user or the alias of the name before a separator, the longest first: ``alice+lists`` is ``alice``;
- ``postmaster``, which always exists (RFC 5321 §4.5.1): the first user's mailbox, or, in a domain without
  users, one of its own, so that the mail is kept.

The catch-all is asked by those who ask for strangers' sake only: an alias that leads to it is a slip.
"""

from collections import Counter
from collections.abc import Mapping

from attrs import field, frozen

from mailserver.domains.aliases import Alias
from mailserver.domains.passwords import DECOY, scheme_of
from mailserver.domains.users import User
from mailserver.interfaces import Account
from mailserver.model.source import Source

__all__ = ["NO_DOMAINS", "POSTMASTER", "Domain", "Tree", "choose_decoy"]

POSTMASTER = "postmaster"


@frozen
class Domain:
    """A domain hosted here.

    :ivar users: by key within the domain, in the order of the file.
    :ivar aliases: by key within the domain; without the catch-all.
    :ivar source: the ``users`` file, or the directory where there is none.
    :ivar check_from: whether the From field of what its users send is checked.
    :ivar decoy: a stored password that costs as much to check as most here do, for those who are not.
    """

    name: str
    source: Source
    users: Mapping[str, User]
    aliases: Mapping[str, Alias]
    catch_all: Alias | None = None
    separators: str = "+"
    quota: int = 0
    messages: int = 0
    check_from: bool = True
    decoy: str = field(default=DECOY, repr=False)

    def find(self, local: str) -> Account | Alias | None:
        """What a local part, as in :attr:`Address.key`, means here, the catch-all aside."""
        found = self._exactly(local)
        for end in range(len(local) - 1, 0, -1) if found is None and self.separators else ():
            if local[end] in self.separators and (found := self._exactly(local[:end])) is not None:
                break
        return found

    def _exactly(self, local: str) -> Account | Alias | None:
        if user := self.users.get(local):
            return user.account
        if alias := self.aliases.get(local):
            return alias
        if local == POSTMASTER:
            first = next(iter(self.users.values()), None)
            name = f"{POSTMASTER}@{self.name}"
            return first.account if first else Account(name, self.quota, self.source, self.messages)
        return None


def choose_decoy(users: Mapping[str, User]) -> str:
    """The stored password of some user whose scheme is the usual one among them."""
    schemes = Counter(scheme_of(user.password) for user in users.values())
    if not schemes:
        return DECOY
    usual = schemes.most_common(1)[0][0]
    return next(user.password for user in users.values() if scheme_of(user.password) == usual)


@frozen
class Tree:
    """All hosted domains, by name, sorted."""

    domains: Mapping[str, Domain]

    @property
    def user_count(self) -> int:
        """How many users there are in all."""
        return sum(len(domain.users) for domain in self.domains.values())

    @property
    def has_verifiers(self) -> bool:
        """Whether SCRAM can be offered: every user could log in with it, and there are users."""
        users = [user for domain in self.domains.values() for user in domain.users.values()]
        able = [user for user in users if not user.account.disabled]
        return bool(able) and all(user.scram is not None for user in able)


NO_DOMAINS = Tree({})
