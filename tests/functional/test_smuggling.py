"""No smuggling: of a DATA that holds an almost-end and a second envelope behind it, at most one message arrives.

Over real sockets and through the whole server, as a sender meets it (CVE-2023-51764, 51765, 51766).
"""

from tests.support.rehearsal import ServerTestCase, converse, count, until

ALMOST = (
    *(b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n"),
    *(b"\n.\r", b"\r.\n", b"\n\n.\n\n", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\n\r"),
    # A CR before a LF that is not its own.
    *(b"\rx\n.\r\n", b"\rx\n.\rx\n", b"\r \n.\n", b"\r\n\rx\n.\r\n"),
    *(b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\0\n.\r\n", b"\r\n. \r\n", b"\r\n.\xc2\x85", b"\r\n.\x0b\r\n"),
)
HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<sender@elsewhere.example>\r\nRCPT TO:<alice@example.lan>\r\n"
SMUGGLED = b"MAIL FROM:<spoof@example.lan>\r\nRCPT TO:<bob@example.lan>\r\nDATA\r\nSubject: two\r\n\r\ntwo\r\n.\r\nQUIT\r\n"


class SmugglingTests(ServerTestCase):
    def test_at_most_one_message_arrives(self) -> object:
        return self.play(self._story)

    def _story(self) -> None:
        server = self.server()
        server.start()
        address = server.address("smtp")
        ends = [end for end in ALMOST if b"\r\n.\r\n" not in end]
        for end in ends:
            content = b"Subject: one\r\n\r\none" + end + SMUGGLED
            for segments in (
                [HELLO + ENVELOPE + b"DATA\r\n" + content],
                [HELLO + ENVELOPE, b"DATA\r\n", *(content[at : at + 7] for at in range(0, len(content), 7))],
                # The same in a chunk, and in a chunk that ends in the midst of it.
                [HELLO + ENVELOPE + b"BDAT %d LAST\r\n" % len(content) + content + b"QUIT\r\n"],
                [HELLO + ENVELOPE + _in_two(content, 21) + b"QUIT\r\n"],
            ):
                said = converse(address, segments)
                assert said.count(b" queued as ") <= 1, (end, said)
                assert b"spoof" not in said
        marker = b"DATA\r\nSubject: last\r\n\r\nlast\r\n.\r\n"
        converse(
            address, [HELLO + ENVELOPE + marker + ENVELOPE.replace(b"alice", b"bob") + marker + b"QUIT\r\n"]
        )
        until(lambda: count(server, "bob@example.lan"), "the last message")
        assert count(server, "bob@example.lan") == 1
        assert count(server) <= 4 * len(ends) + 1


def _in_two(content: bytes, at: int) -> bytes:
    first, second = content[:at], content[at:]
    return b"BDAT %d\r\n%b" % (len(first), first) + b"BDAT %d LAST\r\n%b" % (len(second), second)
