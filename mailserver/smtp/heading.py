"""What becomes of the header section of a message that comes in.

==================================  ===========  =========  =========
field                               from anyone  submitted  a device
==================================  ===========  =========  =========
Return-Path                         removed      removed    removed
Authentication-Results of our own   removed      removed    removed
Bcc, Resent-Bcc                                  removed    removed
Date, Message-ID missing                         added      added
From missing, or more than one                   refused    added
==================================  ===========  =========  =========

Return-Path is the final host's to write (RFC 5321 §4.4), an Authentication-Results with our own name
nobody's but ours (RFC 8601 §5). Submitted is what a logged-in user sends (RFC 6409 §5, §8.2, §8.3): such a
message must say who wrote it, and a program that does not is to be told. A sloppy device cannot be told
anything: it gets a From with its envelope sender, where there is none. All else stays as it came.
"""

from attrs import frozen

from mailserver.model.address import Address
from mailserver.model.envelope import QueueID
from mailserver.model.reply import NO_AUTHOR_554
from mailserver.model.source import BUILT_IN
from mailserver.smtp.message import Objection
from mailserver.wire.headers import authserv_id, begins_with_field, count_fields, without
from mailserver.wire.trace import date, message_id

__all__ = ["Heading"]


@frozen
class Heading:
    """Makes the header section that is stored of the one that came.

    :ivar hostname: our name.
    :ivar submitted: whether a user who has logged in sends it.
    :ivar sloppy: whether a device sends it that is known to know no better.
    :ivar when: in seconds since 1970.
    """

    hostname: str
    id: QueueID
    sender: Address
    when: float
    submitted: bool = False
    sloppy: bool = False

    def rewrite(self, section: bytes) -> bytes:
        """The section to be stored. Raises :class:`Objection`."""
        section = without(section, "Return-Path")
        section = without(section, "Authentication-Results", self._is_ours)
        if not (self.submitted or self.sloppy):
            return section
        section = without(without(section, "Bcc"), "Resent-Bcc")
        missing = self._missing(section)
        if missing and not begins_with_field(section):
            # Text from the first line on: without an empty line, it would become fields.
            return missing + b"\r\n" + section
        return missing + section

    def _is_ours(self, value: bytes) -> bool:
        return authserv_id(value) == self.hostname.lower().encode("ascii")

    def _missing(self, section: bytes) -> bytes:
        """The fields that every message must have (RFC 5322 §3.6), and this one lacks."""
        has_header = begins_with_field(section)
        fields = []
        authors = count_fields(section, "From") if has_header else 0
        if authors != 1 and not self.sloppy:
            raise Objection(f"{authors} From fields", BUILT_IN, NO_AUTHOR_554)
        if not authors and not self.sender.is_null:
            fields.append(f"From: <{self.sender}>")
        if not (has_header and count_fields(section, "Date")):
            fields.append(f"Date: {date(self.when)}")
        if not (has_header and count_fields(section, "Message-ID")):
            fields.append(f"Message-ID: {message_id(self.id, self.hostname)}")
        return "".join(f"{field}\r\n" for field in fields).encode()
