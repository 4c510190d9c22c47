"""The log of the real program: nothing is missing after a stop."""

from tests.support.rehearsal import ServerTestCase, smtp


class LogTests(ServerTestCase):
    def test_a_stop_in_order_loses_no_line(self) -> object:
        return self.play(self._stopped_at_once)

    def _stopped_at_once(self) -> None:
        server = self.server()
        server.start()
        with smtp(server) as session:
            for _ in range(20):
                session.sendmail("bob@example.lan", ["alice@example.lan"], b"Subject: x\r\n\r\nx\r\n")
        assert server.stop() == 0
        log = server.log.read_text()
        assert log.count(" [mail#info] accepted id=") == 20
        assert log.rstrip().endswith("Server Shut Down.")
