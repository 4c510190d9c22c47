"""One message offered to one mail host: MAIL, RCPT, DATA, and what each answer means (RFC 5321 §3.3).

A :class:`Transaction` goes over a :class:`~mailserver.smtp.client.Conversation` that has been opened, and
leaves it fit for the next one, unless the conversation has ended (RSET comes first where the envelope was
refused). It answers for every recipient and never raises for a host. How far each trouble reaches (law 6):

===========================================  =====================================================
4yz, 5yz to MAIL or DATA                     all recipients: MESSAGE
4yz, 5yz to RCPT                             that recipient: RECIPIENT; 552 behind accepted ones
                                             means "too many" and is temporary (§4.5.3.1.10)
4yz, 5yz in the midst of the content         all recipients: MESSAGE; the rest is not sent
421, no answer, lost, no sense before the    all that have had no answer yet: HOST
final dot
the same after it, 421 excepted, or          all accepted recipients: DOUBT
cancelled there
===========================================  =====================================================

Over LMTP each accepted recipient has an answer of its own to the final dot (RFC 2033 §4.2), of RECIPIENT
reach; when the connection is lost or 421 comes among them, those not yet answered for are in DOUBT.

With PIPELINING the whole envelope and DATA are one write (RFC 2920). What a host does not offer is not
used: SIZE (RFC 1870; a message over the size announced is not offered at all), 8BITMIME (RFC 6152; a
message whose content holds 8-bit octets fails with 5.6.3 where it is not offered), SMTPUTF8 (RFC 6531; a
message that needs it fails with 5.6.7 where it is not offered) and DSN (RFC 3461). Only REQUIRETLS is
insisted on where the message asks for it (RFC 8689 §4.2): a host without it, or without TLS, is not told of
the message and is passed over, 5.7.30.
"""

import re
from collections.abc import Sequence

from twisted.internet.defer import CancelledError

from mailserver.interfaces import IContent, StorageTrouble
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Delayed, Delivered, Failed, Outcome, Scope
from mailserver.model.reply import Reply
from mailserver.smtp.client import Conversation
from mailserver.smtp.trouble import HostTrouble, in_one_line, judge, said
from mailserver.wire.dots import Stuffer
from mailserver.wire.replies import enhanced_status
from mailserver.wire.xtext import to_xtext

__all__ = ["Transaction"]

_CHUNK = 64 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"[0-9]{1,20}")


class Transaction:
    """One message, some of its recipients, one host.

    :param host: what the outcomes call the host.
    """

    def __init__(
        self,
        conversation: Conversation,
        host: str,
        envelope: Envelope,
        content: IContent,
        recipients: Sequence[Recipient],
    ) -> None:
        self.outcomes: dict[Recipient, Outcome] = {}
        """What has become certain so far."""
        self.surplus: list[Recipient] = []
        """Delayed because they were too many for one transaction: may be offered in the next."""
        self._conversation = conversation
        self._host = host
        self._envelope = envelope
        self._content = content
        self._recipients = list(dict.fromkeys(recipients))
        self._pipelining = "PIPELINING" in conversation.extensions

    async def run(self) -> dict[Recipient, Outcome]:
        """Offer the message, once."""
        try:
            if offered := await self._sort_out():
                await self._offer(offered)
        except HostTrouble as trouble:
            self._settle(trouble.outcome(Scope.HOST, self._host))
        except StorageTrouble as trouble:
            # Nothing ends a message that has begun, other than the connection's end.
            self._conversation.abandon(HostTrouble(str(trouble)))
            text = "content cannot be read now"
            self._settle(Delayed(Scope.MESSAGE, text, "4.3.0", self._host))
        return self.outcomes

    def _settle(self, outcome: Outcome) -> None:
        """Give this outcome to all who have none."""
        for recipient in self._recipients:
            self.outcomes.setdefault(recipient, outcome)

    # --- what can be known before asking -----------------------------------------------------------

    async def _sort_out(self) -> list[Recipient]:
        """The recipients that this host can be asked about."""
        refusal = self._refusal_of_host() or self._refusal_of_size()
        if refusal := refusal or await self._refusal_of_sender() or await self._refusal_of_content():
            self._settle(refusal)
            return []
        for recipient in self._recipients:
            if _CONTROL.search(str(recipient.address)):
                self.outcomes[recipient] = self._never(Scope.RECIPIENT, "address cannot be sent", "5.1.3")
            elif not recipient.address.is_ascii and not self._offers("SMTPUTF8"):
                self.outcomes[recipient] = self._never(Scope.RECIPIENT, "no SMTPUTF8 there", "5.6.7")
        return [recipient for recipient in self._recipients if recipient not in self.outcomes]

    def _refusal_of_host(self) -> Failed | None:
        conversation = self._conversation
        if not self._envelope.requiretls or conversation.is_private:
            return None
        if conversation.tls and self._offers("REQUIRETLS"):
            return None
        return self._never(Scope.HOST, "the message needs REQUIRETLS, which is not offered there", "5.7.30")

    def _refusal_of_size(self) -> Failed | None:
        limit = self._conversation.extensions.get("SIZE", "")
        if _NUMBER.fullmatch(limit) and 0 < int(limit) < self._content.size:
            text = f"message of {self._content.size} octets; the host takes {limit} (SIZE)"
            return self._never(Scope.MESSAGE, text, "5.3.4")
        return None

    async def _refusal_of_sender(self) -> Failed | None:
        """Also of the header, which may need SMTPUTF8 as an address does (RFC 6531 §3.4)."""
        sender = self._envelope.sender
        if _CONTROL.search(str(sender)):
            return self._never(Scope.MESSAGE, "sender address cannot be sent", "5.1.7")
        if self._offers("SMTPUTF8") or (sender.is_ascii and not self._envelope.smtputf8):
            return None
        if sender.is_ascii and await self._header_is_ascii():
            # Many ask for SMTPUTF8 with every message; what does not need it goes without.
            return None
        return self._never(Scope.MESSAGE, "message needs SMTPUTF8, which is not offered there", "5.6.7")

    async def _refusal_of_content(self) -> Failed | None:
        """RFC 6152 §3: what needs eight bits is not sent to a host that has seven."""
        if self._envelope.body != "8BITMIME" or self._offers("8BITMIME") or await self._content_is_ascii():
            return None
        return self._never(Scope.MESSAGE, "message needs 8BITMIME, which is not offered there", "5.6.3")

    async def _content_is_ascii(self) -> bool:
        offset = 0
        while data := await self._read(offset):
            if not data.isascii():
                return False
            offset += len(data)
        return True

    async def _header_is_ascii(self) -> bool:
        offset, tail = 0, b""
        while data := await self._read(offset):
            offset += len(data)
            data = tail + data
            end = data.find(b"\r\n\r\n")
            if not data[: end if end >= 0 else len(data)].isascii():
                return False
            if end >= 0:
                break
            tail = data[-3:]
        return True

    def _never(self, scope: Scope, text: str, status: str) -> Failed:
        return Failed(scope, text, status, self._host)

    def _offers(self, extension: str) -> bool:
        return extension in self._conversation.extensions

    # --- the envelope ------------------------------------------------------------------------------

    async def _offer(self, recipients: Sequence[Recipient]) -> None:
        conversation, deadlines = self._conversation, self._conversation.deadlines
        mail = self._mail()
        rcpts = [self._rcpt(recipient) for recipient in recipients]
        if self._pipelining:
            conversation.say(mail, *rcpts, b"DATA")
        reply = await self._ask(mail, "MAIL", deadlines.mail)
        if not self._taken(reply):
            self._settle(judge(reply, Scope.MESSAGE, self._host))
            if not self._pipelining:
                return
        accepted = []
        for recipient, rcpt in zip(recipients, rcpts, strict=True):
            reply = await self._ask(rcpt, "RCPT", deadlines.rcpt)
            if self._taken(reply):
                accepted.append(recipient)
            else:
                self._refused(recipient, reply, bool(accepted))
        await self._data(accepted)

    async def _ask(self, command: bytes, what: str, seconds: float) -> Reply:
        if not self._pipelining:
            self._conversation.say(command)
        return await self._conversation.answer(what, seconds)

    def _taken(self, reply: Reply) -> bool:
        """Whether the host agreed. What is neither yes nor no means that we are out of step with it."""
        if 300 <= reply.code < 400:
            raise self._senseless(reply)
        return reply.code < 300

    def _senseless(self, reply: Reply) -> HostTrouble:
        trouble = HostTrouble(f"the host makes no sense: {said(reply)}", "4.5.0")
        self._conversation.abandon(trouble)
        return trouble

    def _refused(self, recipient: Recipient, reply: Reply, others_accepted: bool) -> None:
        if recipient in self.outcomes:
            return  # MAIL was refused: the answers to all the RCPTs behind it say nothing
        outcome: Outcome = judge(reply, Scope.RECIPIENT, self._host)
        # Who speaks LMTP means a full mailbox by 552.
        too_many = reply.code == 552 and not self._conversation.lmtp
        if others_accepted and (too_many or (reply.code == 452 and reply.status == "4.5.3")):
            outcome = Delayed(Scope.RECIPIENT, said(reply), "4.5.3", self._host, reply.code)
            self.surplus.append(recipient)
        self.outcomes[recipient] = outcome

    def _mail(self) -> bytes:
        envelope = self._envelope
        words = [b"MAIL FROM:" + _path(envelope.sender)]
        if self._offers("SIZE"):
            words.append(b"SIZE=%d" % self._content.size)
        if self._offers("8BITMIME") and envelope.body == "8BITMIME":
            words.append(b"BODY=8BITMIME")
        if self._offers("SMTPUTF8") and self._needs_utf8():
            words.append(b"SMTPUTF8")
        if envelope.requiretls and self._offers("REQUIRETLS"):
            words.append(b"REQUIRETLS")
        if self._offers("DSN"):
            if envelope.ret:
                words.append(b"RET=" + envelope.ret.encode("ascii"))
            if envelope.envid and envelope.envid.isascii():
                words.append(b"ENVID=" + to_xtext(envelope.envid).encode("ascii"))
        return b" ".join(words)

    def _rcpt(self, recipient: Recipient) -> bytes:
        words = [b"RCPT TO:" + _path(recipient.address)]
        if self._offers("DSN"):
            if recipient.notify:
                words.append(b"NOTIFY=" + ",".join(sorted(recipient.notify)).encode("ascii"))
            kind, _, original = recipient.original.partition(";")
            if original and recipient.original.isascii():
                words.append(f"ORCPT={kind};{to_xtext(original)}".encode("ascii"))
        return b" ".join(words)

    def _needs_utf8(self) -> bool:
        addresses = [self._envelope.sender, *(recipient.address for recipient in self._recipients)]
        return self._envelope.smtputf8 or not all(address.is_ascii for address in addresses)

    # --- the content -------------------------------------------------------------------------------

    async def _data(self, accepted: Sequence[Recipient]) -> None:
        conversation = self._conversation
        if not accepted and not self._pipelining:
            return
        reply = await self._ask(b"DATA", "DATA", conversation.deadlines.data)
        wanted = [recipient for recipient in accepted if recipient not in self.outcomes]
        if reply.code == 354:
            if wanted:
                await self._send(wanted)
            elif accepted or conversation.lmtp:
                # MAIL was refused, RCPT was not, and now content is expected: a dot might deliver nothing.
                # Over LMTP it would have no answer (RFC 2033 §4.2).
                raise self._senseless(reply)
            else:
                conversation.finish(b".\r\n")
                await conversation.answer("the final dot", conversation.deadlines.dot)
        elif reply.is_positive and wanted:
            raise self._senseless(reply)
        else:
            self._settle(judge(reply, Scope.MESSAGE, self._host))

    async def _send(self, wanted: Sequence[Recipient]) -> None:
        conversation = self._conversation
        try:
            conversation.finish(await self._stream(), len(wanted) if conversation.lmtp else 1)
        except HostTrouble as trouble:
            # A host that refuses in the midst of the content has spoken about the message.
            about_message = trouble.reply is not None and trouble.reply.code != 421
            scope = Scope.MESSAGE if about_message else Scope.HOST
            self._settle(trouble.outcome(scope, self._host))
            return
        if not conversation.lmtp:
            self._settle(await self._word_on(Scope.MESSAGE))
            return
        for recipient in wanted:
            self.outcomes[recipient] = await self._word_on(Scope.RECIPIENT)

    async def _word_on(self, scope: Scope) -> Outcome:
        """What the host says to the final dot, about the message or about one recipient's share of it."""
        conversation = self._conversation
        heard = conversation.heard
        try:
            reply = await conversation.answer("the final dot", conversation.deadlines.dot)
        except CancelledError:
            # Who breaks off here must not try again at once: this is an answer, and the last one.
            conversation.abandon(HostTrouble("broken off", "4.3.2"))
            return Delayed(Scope.DOUBT, "broken off after the final dot", "4.3.2", self._host)
        except HostTrouble as trouble:
            # 421: it has answered, and not taken the message. Another recipient's says nothing of this one.
            if trouble.reply is not None and conversation.heard > heard:
                return judge(trouble.reply, scope, self._host)
            text = in_one_line(f"after the final dot: {trouble.text}")
            return Delayed(Scope.DOUBT, text, trouble.status, self._host)
        if reply.code < 300:
            status, reports = enhanced_status(200, reply), self._offers("DSN")
            return Delivered(said(reply), status, self._host, reports=reports, final=conversation.lmtp)
        if reply.is_positive:
            return self._senseless(reply).outcome(Scope.DOUBT, self._host)
        return judge(reply, scope, self._host)

    async def _stream(self) -> bytes:
        """Send the content but for its last piece, which is returned with the final dot.

        A small message goes out in one write so. Raises :class:`StorageTrouble` also when the content
        ends before its time: the dot would make a message of half of one.
        """
        stuffer = Stuffer()
        offset, size = 0, self._content.size
        while offset < size:
            data = await self._read(offset)
            if not data:
                raise StorageTrouble(f"content ends at {offset} of {size} octets")
            offset += len(data)
            if offset >= size:
                return stuffer.feed(data) + stuffer.finish()
            await self._conversation.stream(stuffer.feed(data))
        return stuffer.finish()

    async def _read(self, offset: int) -> bytes:
        whole = self._content.whole()
        if whole is not None:
            return whole[offset : offset + _CHUNK]
        return await self._content.read(offset, _CHUNK)


def _path(address: Address) -> bytes:
    return b"<" + str(address).encode("utf-8") + b">"
