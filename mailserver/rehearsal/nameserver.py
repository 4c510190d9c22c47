"""A DNS authority on loopback for everything: the names of rehearsals and tests (RFC 1035, RFC 2308).

A :class:`Nameserver` answers from a :class:`Zone`, which stands for the whole of DNS: what is not in it
does not exist (NXDOMAIN), so nothing a rehearsal asks for can leak out. It listens on UDP and TCP on one
port, follows CNAMEs inside the zone, tells "no such name" from "no such data" and puts a SOA record into
both, as negative caching wants it. Zone and faults may be changed while it runs.

It says of names in :attr:`Nameserver.signed`, and of all below them, that DNSSEC vouches for them (AD), where
it is asked for that: for who must believe a name server on loopback, that is all there is to DNSSEC.

A :class:`Fault` is played for a name, or for one type of record of a name: SERVFAIL, REFUSED, silence,
or truncation, which makes the asker come again by TCP. Every question is kept for the asking.

No wildcards, no signatures, no transfers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zonefile
from attrs import frozen
from dns.exception import DNSException
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import DatagramProtocol, ServerFactory, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

__all__ = ["Fault", "Nameserver", "Question", "Zone"]

_Reply = Callable[[bytes], None]

_ATTEMPTS = 20
"""How many ports are tried until one is free for UDP and TCP alike."""


class Fault(Enum):
    """What is done instead of answering."""

    SERVFAIL = "answers SERVFAIL"
    REFUSED = "answers REFUSED"
    SILENCE = "does not answer"
    TRUNCATION = "answers nothing but TC by UDP"


@frozen
class Question:
    """One question that was asked.

    :ivar transport: ``udp`` or ``tcp``.
    :ivar port: the asker's port.
    :ivar payload: the EDNS payload size; 0 without EDNS.
    :ivar flags: the header flags, as ``RD AD``.
    """

    name: str
    type: str
    transport: str = "udp"
    port: int = 0
    payload: int = 0
    flags: str = ""


class Zone:
    """All the names there are.

    :param records: master-file text (RFC 1035 §5.1; names are absolute), or record texts by name:
        ``{"outside.example": ["MX 10 mx1.outside.example."]}``.
    :param ttl: of all records, in seconds, but for those of master-file text that have one.
    :param negative_ttl: how long an answer of no data may be kept.
    """

    def __init__(
        self,
        records: str | Mapping[str, Sequence[str]] = "",
        ttl: int = 60,
        negative_ttl: int = 60,
    ) -> None:
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self._sets: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset] = {}
        if isinstance(records, str):
            for found in dns.zonefile.read_rrsets(
                records, origin=".", relativize=False, rdclass=None, default_ttl=ttl
            ):
                self._sets[found.name, found.rdtype] = found
        else:
            for name, texts in records.items():
                for text in texts:
                    kind, _, data = text.partition(" ")
                    self.add(name, kind, data)

    def add(self, name: str, kind: str, data: str, ttl: int | None = None) -> None:
        """Add one record: ``add("outside.example", "MX", "10 mx1.outside.example.")``."""
        owner, rdtype = dns.name.from_text(name), dns.rdatatype.from_text(kind)
        life = self.ttl if ttl is None else ttl
        record = dns.rdata.from_text(dns.rdataclass.IN, rdtype, data, origin=dns.name.root, relativize=False)
        found = self._sets.setdefault((owner, rdtype), dns.rrset.RRset(owner, dns.rdataclass.IN, rdtype))
        found.add(record, life)

    def remove(self, name: str, kind: str = "") -> None:
        """Remove a name's records of one type, or all of them. Harmless when there are none."""
        owner = dns.name.from_text(name)
        for key in list(self._sets):
            if key[0] == owner and kind in ("", dns.rdatatype.to_text(key[1])):
                del self._sets[key]

    def chain(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Iterator[dns.rrset.RRset | None]:
        """The record sets that answer: CNAMEs on the way, then what was asked for.

        Ends with ``None`` where the last name does not exist, and with a CNAME where it has no such
        data.
        """
        seen = set()
        while name not in seen:
            seen.add(name)
            found = self._sets.get((name, rdtype))
            alias = self._sets.get((name, dns.rdatatype.CNAME))
            if found is not None:
                yield found
            elif alias is not None:
                yield alias
                name = alias[0].target
                continue
            elif not self._exists(name):
                yield None
            return

    def _exists(self, name: dns.name.Name) -> bool:
        # A name with names below it exists, too (RFC 8020 §2).
        return any(owner.is_subdomain(name) for owner, _ in self._sets)


class Nameserver:
    """The authority.

    :param reactor: gives TCP, UDP and time.
    :param zone: a :class:`Zone`, or what makes one.
    """

    def __init__(self, reactor: Any, zone: Zone | str | Mapping[str, Sequence[str]] = "") -> None:
        self.zone = zone if isinstance(zone, Zone) else Zone(zone)
        self.asked: list[Question] = []
        """Every question, in order."""
        self.signed: set[str] = set()
        """The names of which it says, as of all below them, that their answers are validated."""
        self.connections: set[_Stream] = set()
        """The TCP connections that stand now."""
        self._reactor = reactor
        self._faults: dict[tuple[dns.name.Name, str], Fault] = {}
        self._delays: dict[dns.name.Name, float] = {}
        self._listening: list[IListeningPort] = []
        self._late: set[IDelayedCall] = set()

    async def start(self, interface: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen on UDP and TCP; the address and port. Raises ``CannotListenError``."""
        for attempt in range(1, _ATTEMPTS + 1):
            stream = self._reactor.listenTCP(port, _Streams(self), interface=interface)
            found: int = stream.getHost().port
            try:
                datagrams = self._reactor.listenUDP(found, _Datagrams(self), interface=interface)
            except CannotListenError:
                await _settled(stream.stopListening())
                if port or attempt == _ATTEMPTS:
                    raise
            else:
                self._listening = [stream, datagrams]
                return interface, found
        raise AssertionError("unreachable")

    async def stop(self) -> None:
        """Listen no more, and forget what was still to be answered."""
        listening, self._listening = self._listening, []
        for late in list(self._late):
            late.cancel()
        self._late.clear()
        for port in listening:
            await _settled(port.stopListening())
        gone = []
        for connection in list(self.connections):
            gone.append(connection.gone)
            connection.transport.abortConnection()
        for end in gone:
            await end

    def play(self, name: str, fault: Fault, kind: str = "") -> None:
        """From now on, answer questions about a name, or for one type of it, with a fault."""
        self._faults[dns.name.from_text(name), kind] = fault

    def delay(self, name: str, seconds: float) -> None:
        """From now on, answer questions about a name so much later."""
        self._delays[dns.name.from_text(name)] = seconds

    def heal(self, name: str) -> None:
        """End a name's faults and delays."""
        owner = dns.name.from_text(name)
        self._delays.pop(owner, None)
        for key in [key for key in self._faults if key[0] == owner]:
            del self._faults[key]

    def questions(self, name: str, kind: str = "") -> list[Question]:
        """The questions asked about a name, or for one type of it."""
        return [q for q in self.asked if q.name == name and kind in ("", q.type)]

    # --- for the protocols -------------------------------------------------------------------------

    def receive(self, wire: bytes, transport: str, port: int, reply: _Reply) -> None:
        """Answer one message; what is no question gets no answer."""
        try:
            query = dns.message.from_wire(wire)
        except DNSException:
            return
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return
        asked = query.question[0]
        question = _describe(query, transport, port)
        self.asked.append(question)
        fault = self._faults.get((asked.name, question.type)) or self._faults.get((asked.name, ""))
        if fault is Fault.SILENCE:
            return
        if transport == "tcp":
            wire = _fit(self._respond(query, fault), 65535)
        else:
            limit = 0 if fault is Fault.TRUNCATION else max(question.payload, 512)
            wire = _fit(self._respond(query, fault), limit)
        self._later(self._delays.get(asked.name, 0.0), reply, wire)

    def _respond(self, query: dns.message.Message, fault: Fault | None) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        if fault in (Fault.SERVFAIL, Fault.REFUSED):
            response.set_rcode(dns.rcode.from_text(fault.name))
            return response
        response.flags |= dns.flags.AA
        asked = query.question[0]
        answers = list(self.zone.chain(asked.name, asked.rdtype))
        if answers and answers[-1] is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.answer = [found for found in answers if found is not None]
        if not response.answer or response.answer[-1].rdtype != asked.rdtype:
            response.authority.append(self._soa())
        if query.flags & dns.flags.AD and all(
            self._is_signed(name) for name in (asked.name, *(found.name for found in response.answer))
        ):
            response.flags |= dns.flags.AD
        return response

    def _is_signed(self, name: dns.name.Name) -> bool:
        return any(name.is_subdomain(dns.name.from_text(top)) for top in self.signed)

    def _soa(self) -> dns.rrset.RRset:
        life = self.zone.negative_ttl
        return dns.rrset.from_text(".", life, "IN", "SOA", f". . 1 3600 600 86400 {life}")

    def _later(self, seconds: float, reply: _Reply, wire: bytes) -> None:
        if not seconds:
            reply(wire)
            return

        def answer() -> None:
            self._late.discard(late)
            reply(wire)

        late = self._reactor.callLater(seconds, answer)
        self._late.add(late)


def _describe(query: dns.message.Message, transport: str, port: int) -> Question:
    asked = query.question[0]
    return Question(
        name=asked.name.to_text(omit_final_dot=True).lower(),
        type=dns.rdatatype.to_text(asked.rdtype),
        transport=transport,
        port=port,
        payload=query.payload if query.edns >= 0 else 0,
        flags=dns.flags.to_text(query.flags),
    )


def _fit(response: dns.message.Message, limit: int) -> bytes:
    """The message in wire form; truncated where it is over ``limit`` (RFC 2181 §9)."""
    wire = response.to_wire(max_size=65535)
    if len(wire) <= limit:
        return wire
    response.flags |= dns.flags.TC
    response.answer, response.authority, response.additional = [], [], []
    return response.to_wire()


async def _settled(waiting: object) -> None:
    if isinstance(waiting, Deferred):
        await waiting


class _Datagrams(DatagramProtocol):
    noisy = False
    transport: Any

    def __init__(self, nameserver: Nameserver) -> None:
        self._nameserver = nameserver

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._nameserver.receive(datagram, "udp", addr[1], lambda wire: self.transport.write(wire, addr))


class _Stream(Int16StringReceiver):
    """RFC 1035 §4.2.2: messages with two octets of length in front."""

    transport: Any

    def __init__(self, nameserver: Nameserver) -> None:
        self.gone: Deferred[None] = Deferred()
        self._nameserver = nameserver

    def connectionMade(self) -> None:
        self._nameserver.connections.add(self)

    def stringReceived(self, string: bytes) -> None:
        self._nameserver.receive(string, "tcp", self.transport.getPeer().port, self.sendString)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._nameserver.connections.discard(self)
        self.gone.callback(None)


class _Streams(ServerFactory):
    noisy = False

    def __init__(self, nameserver: Nameserver) -> None:
        self._nameserver = nameserver

    def buildProtocol(self, addr: object) -> _Stream:
        return _Stream(self._nameserver)
