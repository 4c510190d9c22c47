"""What the hot functions cost, one by one: ``make bench-micro`` or ``python -m benchmarks.micro [NAME]``.

Processor time of this process, the best of several repetitions: what a function costs when nothing is in
its way. For a change to one of them, before and after; what it does for a whole server is ``make bench``'s
to say.
"""

import sys
import time
from collections.abc import Callable
from ipaddress import ip_network
from timeit import Timer

from attrs import frozen

from mailserver.access.networks import Networks
from mailserver.domains.passwords import verify
from mailserver.mailboxes.contents import Contents, Message
from mailserver.mailboxes.filenames import facts
from mailserver.model.address import Address
from mailserver.model.envelope import Origin, QueueID
from mailserver.model.reply import Reply
from mailserver.wire import pop3, smtp
from mailserver.wire.dots import Stuffer, Unstuffer, WireForm
from mailserver.wire.headers import HeaderSection
from mailserver.wire.lines import Lines
from mailserver.wire.replies import ReplyReader, spell_reply
from mailserver.wire.trace import HeaderScan, received

__all__ = ["MICRO", "Micro", "Price", "price"]

_REPEAT = 5
_SHORTEST = 0.05
"""Seconds of a repetition: what is shorter measures the clock."""


@frozen
class Micro:
    """One function, with what it is given.

    :ivar octets: how many it works through each time; 0: that is not what matters.
    """

    name: str
    call: Callable[[], object]
    octets: int = 0


@frozen
class Price:
    """What one call costs.

    :ivar rate: MB a second; 0 where octets are not what matters.
    """

    microseconds: float
    rate: float


def price(micro: Micro, shortest: float = _SHORTEST) -> Price:
    """Measure."""
    timer = Timer(micro.call, timer=time.process_time)
    number = 1
    while timer.timeit(number) < shortest:
        number *= 2
    seconds = min(timer.repeat(_REPEAT, number)) / number
    return Price(seconds * 1e6, micro.octets / seconds / 1e6)


def main(names: list[str]) -> int:
    """Run the command; returns the exit status."""
    for micro in MICRO:
        if not names or any(micro.name.startswith(name) for name in names):
            cost = price(micro)
            rate = f"{cost.rate:10,.0f} MB/s" if micro.octets else ""
            print(f"{micro.name:44} {cost.microseconds:12,.2f} µs{rate}")
    return 0


_HEADER = (
    b"Received: from client.test ([192.0.2.7])\r\n\tby mx.bench.test with ESMTP id 1;\r\n"
    b"\tMon, 06 Jan 2025 10:00:00 +0000\r\nFrom: <sender@client.test>\r\nTo: <u00@bench.test>\r\n"
    b"Subject: a message\r\nDate: Mon, 06 Jan 2025 10:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n\r\n"
)
_LINES = _HEADER + (b"x" * 76 + b"\r\n") * 830
_DOTS = b".a line that begins with a dot\r\n" * 2048
_LF = _LINES.replace(b"\r\n", b"\n")
_ORIGIN = Origin("192.0.2.7", 1025, "client.test", "ESMTP")
_NAMES = tuple(f"{1_700_000_000 + n}.M{n:06}P1Q{n}R0.mail,S=4096,W=4160:2,S" for n in range(20_000))
_CONTENTS = tuple(Message("cur", name, 4160, facts(name).uid) for name in _NAMES)
_NETWORKS = Networks(tuple((ip_network(f"10.{n}.0.0/16"), n) for n in range(100)))
_EHLO = b"250-mx.bench.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 50000000\r\n250 DSN\r\n"


def _commands() -> None:
    lines = Lines(2048)
    lines.feed(b"MAIL FROM:<sender@client.test> SIZE=4096\r\nRCPT TO:<u00@bench.test>\r\nDATA\r\n")
    while lines.next() is not None:
        pass


def _content(data: bytes) -> Callable[[], object]:
    return lambda: Unstuffer().feed(data)


MICRO = (
    Micro("lines: three commands out of one read", _commands),
    Micro("smtp: MAIL split", lambda: smtp.split_command(b"MAIL FROM:<sender@client.test> SIZE=4096")),
    Micro("smtp: MAIL parsed", lambda: smtp.parse_mail(b"FROM:<sender@client.test> SIZE=4096")),
    Micro("smtp: RCPT parsed", lambda: smtp.parse_rcpt(b"TO:<u00@bench.test>")),
    Micro("smtp: a reply spelled", lambda: spell_reply(Reply(250, "ok", "2.0.0"))),
    Micro("smtp: a reply read", lambda: ReplyReader().feed(_EHLO)),
    Micro("dots: 4 KB of content off the wire", _content(_LINES[:4096] + b"\r\n.\r\n"), 4096),
    Micro("dots: 64 KB of content off the wire", _content(_LINES), len(_LINES)),
    Micro("dots: 64 KB in which every line has one", _content(_DOTS), len(_DOTS)),
    Micro("dots: 64 KB of content on the wire", lambda: Stuffer().feed(_LINES), len(_LINES)),
    Micro("dots: 64 KB of a file in wire form", lambda: WireForm().feed(_LF), len(_LF)),
    Micro("header: found in 4 KB", lambda: HeaderScan().feed(_LINES[:4096])),
    Micro("header: taken out of 4 KB", lambda: HeaderSection().feed(_LINES[:4096])),
    Micro(
        "header: Received",
        lambda: received(_ORIGIN, "mx.bench.test", QueueID("1"), Address("u00", "bench.test"), 1.7e9),
    ),
    Micro("access: a client among 100 networks", lambda: _NETWORKS.match("10.99.1.1")),
    Micro("login: a password that is kept as such", lambda: verify("{PLAIN}pass", b"pass")),
    Micro("pop3: a command split", lambda: pop3.split_command(b"RETR 17")),
    Micro("maildir: what one name tells", lambda: facts(_NAMES[17])),
    Micro("maildir: UIDL of 20,000", lambda: Contents(_CONTENTS).listing("uid")),
    Micro("maildir: LIST of 20,000", lambda: Contents(_CONTENTS).listing("size")),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
