"""From a domain to the hosts that take its mail, in the order they are to be asked (RFC 5321 §5.1).

Two finders with one method, ``find(domain)``, whose answer is a :class:`Found`:

- :class:`Exchangers` asks DNS: MX hosts by preference, equal preferences in random order, every address
  of each, the two families in turn. A domain without MX records is its own mail host; one whose MX
  question is not *answered* is not: its mail waits. An address literal goes straight to that address. A host
  that is an alias (CNAME), or an address instead of a name, is no host that RFC 5321 §5.1 knows, and is asked
  all the same, as all others do.
- :class:`Smarthosts` answers with the same hosts for every domain, in the admin's order; a UNIX socket, too.

What is left out: ourselves, by name or address, and every host of the same or a worse preference, so that
mail never goes round in circles; hosts that do not exist; addresses no mail host can have (unspecified,
multicast, link-local, and loopback unless allowed). A host whose addresses nobody knows *now* is passed
over for this run, but then the mail that no other host takes waits, and does not fail.

With each host comes what DNSSEC says of the way there, for DANE (RFC 7672 §2.2): a host is vouched for by a
secure MX answer, or because its name is the domain's own, or the administrator's word; where its addresses
are secure, too, TLSA records count for it, under the name at the end of its aliases before its own.

==========================================================  ==================
nobody answers about the domain, or about the hosts left    Delayed 4.4.3
the domain does not exist                                   Failed 5.1.2
the domain takes no mail: null MX (RFC 7505)                Failed 5.1.10
an address literal that is none                             Failed 5.1.3
only we are left                                            Failed 5.4.6
no host is left that has an address to connect to           Failed 5.4.4
no smarthost has an address                                 Delayed 4.4.4
==========================================================  ==================

Nothing is raised.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import chain, zip_longest
from random import Random

from attrs import evolve, field, frozen

from mailserver.interfaces import Answers, IResolver, NoSuchData, NoSuchName, Unanswered
from mailserver.model.exchanger import MX, Exchanger, NextHop
from mailserver.model.outcome import Delayed, Failed, Scope
from mailserver.net.resolver import all_of

__all__ = [
    "Exchangers",
    "Found",
    "Smarthosts",
    "is_address",
    "is_null",
    "is_usable",
    "order_addresses",
    "order_hosts",
]

_MOST_HOSTS = 20
"""The hosts whose addresses are asked for: nobody has more for good, and each costs two questions."""

_THIS_NETWORK = ip_network("0.0.0.0/8")


@frozen
class Found:
    """Whom to ask for a domain.

    :ivar exchangers: in order; no address twice.
    :ivar trouble: what to say of recipients whom none of them settles. Never ``None`` when there are
        no exchangers.
    :ivar seed: what the order of equal hosts was drawn from; 0 where nothing was drawn.
    """

    exchangers: tuple[Exchanger, ...] = ()
    trouble: Delayed | Failed | None = None
    seed: int = field(default=0, eq=False)


# --- the rules, without a network --------------------------------------------------------------------


def is_null(records: Collection[MX]) -> bool:
    """Whether these MX records say: no mail here, ever (RFC 7505 §3)."""
    return bool(records) and not any(record.host for record in records)


def order_hosts(records: Collection[MX], own_names: Collection[str], chance: Random) -> tuple[MX, ...]:
    """The hosts better than ourselves, in order: by preference, and at random inside one preference.

    :param own_names: in lower case; where one of them is among the hosts, it goes, with all that are no
        better.
    """
    real = [record for record in records if record.host]
    limit = min((record.preference for record in real if record.host in own_names), default=None)
    better = [record for record in real if limit is None or record.preference < limit]
    hosts: dict[str, MX] = {}
    for record in sorted(better, key=lambda record: (record.preference, chance.random())):
        hosts.setdefault(record.host, record)
    return tuple(hosts.values())


def order_addresses(addresses: Sequence[str]) -> tuple[str, ...]:
    """The families in turn, beginning with the first address's; each in the resolver's order.

    So that a family that leads nowhere costs one attempt, and not one for each of its addresses, before
    the other gets its chance.
    """
    first = [address for address in addresses if (":" in address) == (":" in addresses[0])]
    second = [address for address in addresses if address not in first]
    return tuple(address for address in chain(*zip_longest(first, second)) if address is not None)


def is_usable(address: str, loopback: bool = False) -> bool:
    """Whether a mail host can have this address; ``loopback``: whether it may be this machine's."""
    parsed: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        # ::ffff:127.0.0.1 is loopback, too, and connects to it.
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return loopback
    return not (
        parsed.is_unspecified
        or parsed.is_multicast
        or parsed.is_link_local
        or parsed in _THIS_NETWORK
        or str(parsed) == "255.255.255.255"
    )


# --- the finders ---------------------------------------------------------------------------------------


@frozen
class _Host:
    """A host with its addresses, in order; ``None`` when nobody knows them now.

    :ivar bases: see :class:`Exchanger`; so for ``is_vouched``.
    """

    name: str
    preference: int
    addresses: tuple[str, ...] | None
    bases: tuple[str, ...] = ()
    is_vouched: bool = True


async def _look_up(resolver: IResolver, name: str, preference: int) -> _Host:
    if literal := _literal_address(name):
        return _Host(name, preference, literal)
    try:
        addresses = await resolver.addresses(name)
    except (NoSuchName, NoSuchData):
        return _Host(name, preference, ())
    except Unanswered:
        return _Host(name, preference, None)
    # RFC 7672 §2.2.2. Aliases that end in an unsigned zone are taken for unsigned altogether.
    bases = tuple(dict.fromkeys((addresses.name or name, name))) if addresses.secure else ()
    return _Host(name, preference, order_addresses(addresses), bases)


@lru_cache(maxsize=1024)  # hosts are looked up for every message
def _literal_address(name: str) -> tuple[str, ...]:
    """The address that stands in the place of a host's name, if one does; none with a scope."""
    try:
        return () if "%" in name else (str(ip_address(name)),)
    except ValueError:
        return ()


async def _find_hop(resolver: IResolver, hop: NextHop, preference: int) -> _Host:
    if not hop.port or "%" in hop.host:
        # Only the administrator names sockets and scopes: a stranger's MX record may hold them as well.
        return _Host(hop.host, preference, (hop.host,))
    return await _look_up(resolver, hop.host, preference)


def is_address(name: str) -> bool:
    """Whether it is an IP address, and no name."""
    return bool(_literal_address(name))


def _nobody(address: str) -> bool:
    return False


class Exchangers:
    """The mail hosts of the world.

    :param port: the TCP port of mail hosts.
    :param own_names: what we are called, in lower case.
    :param own_addresses: the IP addresses at which *we* answer on ``port``.
    :param chance: shuffles hosts of equal preference.
    :param loopback: whether hosts may have loopback addresses (rehearsals and tests).
    :param is_ours: whether we answer at an address though it is not among ``own_addresses``: asked where we
        listen on all there are.
    """

    def __init__(
        self,
        resolver: IResolver,
        port: int,
        own_names: Collection[str],
        own_addresses: Collection[str],
        chance: Random,
        loopback: bool = False,
        is_ours: Callable[[str], bool] = _nobody,
    ) -> None:
        self._resolver = resolver
        self._port = port
        self._own_names = frozenset(own_names)
        self._own_addresses = frozenset(str(ip_address(address)) for address in own_addresses)
        self._chance = chance
        self._loopback = loopback
        self._is_ours = is_ours

    async def find(self, domain: str) -> Found:
        """Whom to ask for ``domain`` (lower case, A-labels, or an address literal)."""
        if domain.startswith("["):
            return self._literal(domain)
        try:
            records = await self._resolver.mx(domain)
        except NoSuchName:
            return _failed("5.1.2", f"there is no domain {domain}")
        except NoSuchData:
            # RFC 5321 §5.1: the implicit MX, only where DNS says that there is no other.
            records = Answers((MX(0, domain),), secure=True)
        except Unanswered as trouble:
            return _delayed("4.4.3", f"DNS does not answer: {trouble}")
        if is_null(records):
            return _failed("5.1.10", f"{domain} takes no mail (null MX, RFC 7505)")
        # A generator of its own for each question, so that the seed in the journal tells the whole order.
        seed = self._chance.getrandbits(32)
        ordered = order_hosts(records, self._own_names, Random(seed))  # noqa: S311 - the order of equal hosts
        if not ordered:
            return _loop(domain)
        hosts = await self._resolve(ordered[:_MOST_HOSTS])
        if not records.secure:
            hosts = [evolve(host, bases=(), is_vouched=False) for host in hosts]
        return evolve(self._choose(domain, hosts), seed=seed)

    async def _resolve(self, ordered: Sequence[MX]) -> list[_Host]:
        """The hosts with their addresses, as far as they are better than ourselves."""
        hosts = await all_of(_look_up(self._resolver, mx.host, mx.preference) for mx in ordered)
        limit = min((host.preference for host in hosts if self._is_us(host)), default=None)
        return [host for host in hosts if limit is None or host.preference < limit]

    def _is_us(self, host: _Host) -> bool:
        return any(self._is_own(address) for address in host.addresses or ())

    def _is_own(self, address: str) -> bool:
        return address in self._own_addresses or self._is_ours(address)

    def _choose(self, domain: str, hosts: Sequence[_Host]) -> Found:
        if not hosts:
            return _loop(domain)
        there = [
            (evolve(host, addresses=self._usable(host)), NextHop(host.name, self._port)) for host in hosts
        ]
        found = _collect(there)
        if found.exchangers or found.trouble:
            return found
        return _failed("5.4.4", f"no mail host of {domain} has an address to connect to")

    def _usable(self, host: _Host) -> tuple[str, ...] | None:
        if host.addresses is None:
            return None
        return tuple(address for address in host.addresses if is_usable(address, self._loopback))

    def _literal(self, domain: str) -> Found:
        """RFC 5321 §4.1.3: ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``."""
        text = domain.removeprefix("[").removesuffix("]")
        try:
            address = str(ip_address(text[5:] if text.lower().startswith("ipv6:") else text))
        except ValueError:
            return _failed("5.1.3", f"{domain} is no address")
        if "%" in address:
            return _failed("5.1.3", f"{domain} is no address")
        if self._is_own(address):
            return _loop(domain)
        if not is_usable(address, self._loopback):
            return _failed("5.4.4", f"{domain} is not an address to connect to")
        return Found((Exchanger(domain, address, self._port, is_vouched=True),))


class Smarthosts:
    """The hosts that take all mail for the outside from us, in order.

    :param hosts: their addresses are used as they are: who names a tunnel on loopback means it.
    """

    def __init__(self, resolver: IResolver, hosts: Sequence[NextHop]) -> None:
        self._resolver = resolver
        self._hosts = tuple(hosts)
        # Where DNS has no part in it, they are the same for every message.
        self._are_fixed = all(not hop.port or is_address(hop.host) for hop in self._hosts)
        self._fixed: Found | None = None

    async def find(self, domain: str) -> Found:
        """Whom to ask for any domain. Delayed where none has an address: the mistake is here."""
        if self._fixed is not None:
            return self._fixed
        found = await self._find()
        if self._are_fixed:
            self._fixed = found
        return found

    async def _find(self) -> Found:
        hosts = await all_of(
            _find_hop(self._resolver, hop, preference) for preference, hop in enumerate(self._hosts)
        )
        found = _collect(list(zip(hosts, self._hosts, strict=True)))
        if found.exchangers or found.trouble:
            return found
        return _delayed("4.4.4", "no smarthost has an address")


def _collect(hosts: Iterable[tuple[_Host, NextHop]]) -> Found:
    """The addresses of the hosts as exchangers, and the trouble there is with hosts nobody knows now."""
    exchangers: dict[tuple[str, int], Exchanger] = {}
    unknown = []
    for host, hop in hosts:
        if host.addresses is None:
            unknown.append(host.name)
        # A socket has no name that reports could give; who answers there is on this machine.
        name = host.name if hop.port else "localhost"
        for address in host.addresses or ():
            exchanger = Exchanger(
                name,
                address,
                hop.port,
                host.preference,
                wrapped=hop.wrapped,
                is_vouched=host.is_vouched,
                bases=host.bases,
            )
            exchangers.setdefault((address, hop.port), exchanger)
    trouble = None
    if unknown:
        trouble = _delayed("4.4.3", f"DNS does not answer about {', '.join(unknown[:3])}").trouble
    return Found(tuple(exchangers.values()), trouble)


def _failed(status: str, text: str) -> Found:
    return Found(trouble=Failed(Scope.RECIPIENT, text, status))


def _delayed(status: str, text: str) -> Found:
    return Found(trouble=Delayed(Scope.HOST, text, status))


def _loop(domain: str) -> Found:
    return _failed("5.4.6", f"we are the best mail host of {domain}, but it is not hosted here")
