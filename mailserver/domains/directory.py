"""Who lives here: the answers that reception, delivery and logins get, all from memory.

A :class:`Directory` stands on one :class:`~mailserver.domains.domain.Tree` at a time;
:meth:`Directory.replace` puts another in its place in one step, so every answer is wholly of the old or
wholly of the new.
"""

from functools import lru_cache

from attrs import evolve
from zope.interface import implementer

from mailserver.domains.aliases import Alias
from mailserver.domains.domain import POSTMASTER, Domain, Tree
from mailserver.domains.naming import local_key, parse_mailbox
from mailserver.domains.passwords import DECOY
from mailserver.domains.relayed import RelayDomains, names_a_way
from mailserver.domains.senders import Senders
from mailserver.domains.users import User
from mailserver.interfaces import Account, Forward, IDirectory, Nobody, NotHosted, SenderRights, Standing
from mailserver.model.address import Address
from mailserver.model.envelope import Recipient
from mailserver.model.source import BUILT_IN
from mailserver.wire.saslprep import saslprep
from mailserver.wire.syntax import BadSyntax

__all__ = ["Directory"]

_MOST_KNOWN = 10_000
_LONGEST_LOGIN = 320  # RFC 3696 §3: 64 + 1 + 255


@implementer(IDirectory)
class Directory:
    """The hosted domains.

    :param hostname: the server's own name: ``postmaster`` there is the bare ``postmaster``.
    :param senders: knows the addresses under which forwarded mail went out; they exist, too.
    """

    def __init__(self, tree: Tree, hostname: str = "", senders: Senders | None = None) -> None:
        self.routed: frozenset[str] = frozenset()
        """The hosted domains for which a route is named; may be replaced at any time."""
        self.relayed = RelayDomains()
        """The domains for which mail is handed on; may be replaced at any time."""
        self._hostname = hostname
        self._senders = senders
        self.replace(tree)

    def replace(self, tree: Tree) -> None:
        """Answer from another tree from now on."""
        self._tree = tree
        self.has_verifiers = tree.has_verifiers
        self._known: dict[Address, Account] = {}

    def find(self, address: Address) -> Standing:
        """What an address means here (:class:`IDirectory`)."""
        known = self._known.get(address)
        if known is not None and address.domain not in self.routed:
            return known
        standing = self._look_up(address)
        if type(standing) is Account and not standing.routed:
            # Each message asks several times; and a mailbox stays one until the next reload.
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[address] = standing
        return standing

    def _look_up(self, address: Address) -> Standing:
        address = self._at_home(address)
        domain = self._tree.domains.get(address.domain)
        if domain is None:
            return self.relayed.find(address) or NotHosted()
        found = domain.find(local_key(address))
        if found is None and self._senders and (sender := self._senders.behind(address)):
            return Forward((sender,), BUILT_IN, reports_only=True)
        found = found or domain.catch_all
        if found is None:
            return Nobody(domain.source)
        if isinstance(found, Account):
            if address.domain not in self.routed:
                return found
            # The next host is given the whole local part, which only here is a name and nothing else.
            on_the_way = names_a_way(address) and found.name != address.key
            return Nobody(domain.source) if on_the_way else evolve(found, routed=True)
        targets, commands = self._follow(found)
        return Forward(targets, found.source, commands)

    def expand(self, recipient: Recipient) -> tuple[Recipient, ...]:
        """The recipients that a message for this one is queued for (:class:`IDirectory`)."""
        standing = self.find(recipient.address)
        if isinstance(standing, Nobody):
            return ()
        home = self._at_home(recipient.address)
        is_home = home == recipient.address
        if is_home and not isinstance(standing, Forward):
            return (recipient,)
        original = recipient.original or _spell_original(recipient.address)
        if not isinstance(standing, Forward):
            # A bare postmaster cannot be queued: it has no domain, and would be nobody's destination.
            return (_to(home, original, recipient),)
        if len(standing.targets) > 1 and not standing.commands:
            recipient = _without_success(recipient)
        expanded = [_to(target, original, recipient) for target in standing.targets]
        if standing.commands:
            expanded.append(recipient if is_home else _to(home, original, recipient))
        return tuple(expanded)

    def hosts(self, domain: str) -> bool:
        """Whether the domain (lower case, A-labels) is hosted here."""
        return domain in self._tree.domains

    def domains(self) -> tuple[str, ...]:
        """The hosted domains, sorted."""
        return tuple(self._tree.domains)

    def sender_rights(self, login: str) -> SenderRights:
        """As whom an account may send (:class:`IDirectory`)."""
        user = self.user(login)
        if user is None:
            return SenderRights()
        domain = self._tree.domains[user.account.name.rpartition("@")[2]]
        return SenderRights(user.senders, domain.check_from, user.account.source)

    def user(self, login: str) -> User | None:
        """The user who logs in by this name: an address, or, with one domain hosted, a bare name.

        A name that nobody has is looked for as SASLprep has it, too (RFC 5802 §5.1, RFC 4616 §2).
        """
        address = self._login_address(login)
        return self._user_at(address) if address else None

    def login_key(self, login: str) -> str:
        """The one spelling of a login name, whether or not there is such a user."""
        address = self._login_address(login)
        return address.key if address else login

    def decoy(self, login: str) -> str:
        """A stored password to be checked, in vain, for a name that :meth:`user` does not know."""
        address = self._login_address(login)
        domain = self._tree.domains.get(address.domain) if address else None
        domain = domain or next(iter(self._tree.domains.values()), None)
        return domain.decoy if domain else DECOY

    def _login_address(self, login: str) -> Address | None:
        domains = self._tree.domains
        if len(login) > _LONGEST_LOGIN:
            return None
        only = next(iter(domains)) if len(domains) == 1 else ""
        address = _parse_login(login, only)
        if login.isascii() or (address is not None and self._user_at(address) is not None):
            return address
        try:
            return _parse_login(saslprep(login), only)
        except BadSyntax:
            return address

    def _user_at(self, address: Address) -> User | None:
        domain = self._tree.domains.get(address.domain)
        return domain.users.get(local_key(address)) if domain else None

    def _at_home(self, address: Address) -> Address:
        """The address itself; of a ``postmaster`` without a hosted domain, the first domain's."""
        domain = address.domain
        if domain and (domain != self._hostname or domain in self._tree.domains):
            return address
        first = next(iter(self._tree.domains), None)
        if first is None or address.local.lower() != POSTMASTER:
            return address
        return Address(address.local, first)

    def _follow(self, alias: Alias) -> tuple[tuple[Address, ...], tuple[str, ...]]:
        """All that an alias leads to in the end. Each alias is followed once, each account named once."""
        targets: dict[str, Address] = {}
        commands: dict[str, None] = {}
        seen = {id(alias)}
        waiting = [iter(alias.targets)]
        commands.update(dict.fromkeys(alias.commands))
        while waiting:
            target = next(waiting[-1], None)
            if target is None:
                waiting.pop()
                continue
            found = self._member(target)
            if not isinstance(found, Alias):
                targets.setdefault(found.name if found else target.key, target)
            elif id(found) not in seen:
                seen.add(id(found))
                commands.update(dict.fromkeys(found.commands))
                waiting.append(iter(found.targets))
        return tuple(targets.values()), tuple(commands)

    def _member(self, target: Address) -> Account | Alias | None:
        domain: Domain | None = self._tree.domains.get(target.domain)
        return domain.find(local_key(target)) if domain else None


@lru_cache(10_000)  # one login asks several times, and the same people come again and again
def _parse_login(login: str, domain: str) -> Address | None:
    try:
        return parse_mailbox(login, domain)
    except ValueError:
        return None


def _to(address: Address, original: str, recipient: Recipient) -> Recipient:
    return Recipient(address, original, recipient.notify)


def _without_success(recipient: Recipient) -> Recipient:
    # RFC 3461 §5.2.7.2: of an alias that leads to several, success is told as "expanded", once.
    notify = recipient.notify
    if notify is None or "SUCCESS" not in notify:
        return recipient
    return evolve(recipient, notify=notify - {"SUCCESS"} or frozenset({"NEVER"}))


def _spell_original(address: Address) -> str:
    # RFC 3461 §4.2; RFC 6533 §3 for the internationalised.
    return f"{'rfc822' if address.is_ascii else 'utf-8'};{address}"
