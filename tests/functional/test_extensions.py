"""CHUNKING, DSN and the rewriting of headers through the whole server, with independent clients where there are any."""

from tests.support.rehearsal import ServerTestCase, converse, fetch_all, smtp, until


class ExtensionTests(ServerTestCase):
    def test_story(self) -> object:
        return self.play(self._story)

    def _story(self) -> None:
        server = self.server()
        server.start()
        with smtp(server) as session:
            session.ehlo()
            assert session.has_extn("chunking")
            assert session.has_extn("dsn")
            assert "rcptmax=1000" in session.esmtp_features["limits"].lower()
            session.sendmail(
                "alice@example.lan",
                ["bob@example.lan"],
                b"Return-Path: <forged@example.lan>\r\nSubject: tell me\r\n\r\ntext\r\n",
                mail_options=["RET=HDRS", "ENVID=QQ+2B7"],
                rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;Bob+40example.lan"],
            )
        (report,) = until(lambda: fetch_all(server), "the report")
        assert b"Original-Envelope-Id: QQ+7\r\n" in report
        assert b"Original-Recipient: rfc822; Bob@example.lan\r\n" in report
        assert b"Action: delivered\r\n" in report
        (message,) = until(lambda: fetch_all(server, "bob@example.lan", delete=True), "the message")
        assert b"forged" not in message
        # By chunks of any size, the commands pipelined, the octets cut anywhere.
        content = (
            b"Subject: in chunks\r\n\r\n.\r\n..\r\n" + (bytes(range(0x20, 0x7F)) + b"\r\n") * 4000 + b"end"
        )
        sizes = [1, 2, 30, 70_000, 0, len(content) - 70_033]
        script, at = b"EHLO c\r\nMAIL FROM:<alice@example.lan>\r\nRCPT TO:<bob@example.lan>\r\n", 0
        for number, size in enumerate(sizes):
            last = b" LAST" if number == len(sizes) - 1 else b""
            script += b"BDAT %d%b\r\n" % (size, last) + content[at : at + size]
            at += size
        said = converse(
            server.address("smtp"),
            [script[cut : cut + 999] for cut in range(0, len(script), 999)] + [b"QUIT\r\n"],
        )
        assert said.count(b"octets taken") == len(sizes) - 1
        assert said.count(b"queued as") == 1
        (message,) = until(lambda: fetch_all(server, "bob@example.lan"), "the chunks")
        assert message.endswith(content + b"\r\n")


class DiskTests(ServerTestCase):
    """No mail comes in that would fill the disk."""

    def test_story(self) -> object:
        return self.play(self._story)

    def _story(self) -> None:
        server = self.server(tables={"limits": 'message_size = "900TB"'})
        server.start()

        def asked() -> bytes:
            with smtp(server) as session:
                session.ehlo()
                return b"%d %b" % session.mail("alice@example.lan", [f"SIZE={800 * 2**40}"])

        # The first may come before the disk has answered: nobody is kept waiting for it.
        until(lambda: asked().startswith(b"452 4.3.1"), "a refusal")
        until(lambda: "in reserve" in server.log.read_text(), "the reason in the log")
