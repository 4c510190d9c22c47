"""TLS as clients see it: the five services, certificates by name, reload, resumption, what a scanner finds."""

import poplib
import re
import smtplib
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import trustme

from tests.support.certificates import issued
from tests.support.rehearsal import PASSWORD, ServerTestCase, count, needs, run, smtp, until

ALL = ("smtp", "submission", "submissions", "pop3", "pop3s")
CA = trustme.CA()


def careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


def s_client(address: tuple[str, int], *options: str, say: bytes = b"") -> bytes:
    """What ``openssl s_client`` has to tell."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", "{}:{}".format(*address), *options],
        input=say,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


class ServiceTests(ServerTestCase):
    def test_mail_goes_in_by_each_service_and_out_by_each(self) -> object:
        return self.play(self._services)

    def _services(self) -> None:
        server = self.server(services=ALL)
        server.start()
        with smtp(server, service="submission") as session:
            session.starttls(context=careless())
            session.login("bob@example.lan", PASSWORD)
            session.sendmail(
                "bob@example.lan", ["alice@example.lan"], "From: bob@example.lan\r\nSubject: 587\r\n\r\nx\r\n"
            )
        host, port = server.address("submissions")
        with smtplib.SMTP_SSL(host, port, "client.example.lan", context=careless()) as session:
            session.ehlo()
            assert not session.has_extn("starttls")
            session.login("bob@example.lan", PASSWORD)
            session.sendmail(
                "bob@example.lan", ["alice@example.lan"], "From: bob@example.lan\r\nSubject: 465\r\n\r\nx\r\n"
            )
        until(lambda: count(server) == 2, "both messages")
        host, port = server.address("pop3s")
        fetching = poplib.POP3_SSL(host, port, context=careless(), timeout=30)
        fetching.user("alice@example.lan")
        fetching.pass_(PASSWORD)
        messages = [b"\r\n".join(fetching.retr(number)[1]) for number in (1, 2)]
        fetching.quit()
        facts = re.compile(rb"using TLSv1\.3 TLS_AES_256_GCM_SHA384\)[^;]* with ESMTPSA ")
        assert all(facts.search(message) for message in messages), messages
        until(lambda: server.log.read_bytes().count(b'tls="TLSv1.3 TLS_') == 2, "both in the log")


class CertificateTests(ServerTestCase):
    """One server, many names; renewed without anybody noticing."""

    @needs("openssl")
    def test_by_name_and_renewed(self) -> object:
        return self.play(self._by_name)

    def _by_name(self) -> None:
        server = self.server(services=ALL)
        certs = server.config.parent / "certs"
        issued(CA, certs / "mail.example.lan", "mail.example.lan")
        issued(CA, certs / "example.org-0001", "example.org", "*.example.org")
        server.start()
        submissions, pop3s = server.address("submissions"), server.address("pop3s")
        for address in (submissions, pop3s):
            for name in ("mail.example.lan", "example.org", "mx.example.org"):
                with (
                    socket.create_connection(address, 30) as raw,
                    trusting().wrap_socket(raw, server_hostname=name),
                ):
                    pass
        said = s_client(pop3s, "-servername", "elsewhere.example", "-verify_hostname", "mail.example.lan")
        assert b"Certificate chain" in said
        assert b"hostname mismatch" not in said.lower()
        self._renew(server, certs)

    def _renew(self, server: Any, certs: Path) -> None:
        host, port = server.address("submissions")

        def seen() -> bytes:
            raw = socket.create_connection((host, port), 30)
            with trusting().wrap_socket(raw, server_hostname="mail.example.lan") as connection:
                return connection.getpeercert(True) or b""

        with smtp(server) as session:
            session.starttls(context=careless())
            before = seen()
            key = certs / "mail.example.lan" / "privkey.pem"
            good = key.read_bytes()
            key.write_bytes((certs / "example.org-0001" / "privkey.pem").read_bytes())
            server.reload()
            refusal = b"certs/mail.example.lan/privkey.pem: not the key of"
            until(lambda: refusal in server.log.read_bytes(), "the refusal")
            assert seen() == before
            key.write_bytes(good)
            issued(CA, certs / "mail.example.lan", "mail.example.lan")
            server.reload()
            until(lambda: seen() != before, "the renewed certificate")
            assert session.sendmail("bob@example.lan", ["alice@example.lan"], "Subject: x\r\n\r\nx\r\n") == {}
        until(lambda: count(server), "the mail of the session that was open all the time")


class StrengthTests(ServerTestCase):
    @needs("sslscan")
    def test_a_scanner_finds_nothing_weak(self) -> object:
        return self.play(self._scan)

    def _scan(self) -> None:
        server = self.server(services=ALL)
        server.start()
        for service, options in [("submissions", ()), ("pop3s", ()), ("submission", ("--starttls-smtp",))]:
            host, port = server.address(service)
            done = run("sslscan", "--no-colour", "--xml=-", *options, f"{host}:{port}")
            found = ElementTree.fromstring(done.stdout)
            protocols = {
                f"{it.get('type')}{it.get('version')}"
                for it in found.iter("protocol")
                if it.get("enabled") == "1"
            }
            assert protocols == {"tls1.2", "tls1.3"}, (service, protocols)
            ciphers = [it.attrib for it in found.iter("cipher")]
            assert ciphers
            assert {it["strength"] for it in ciphers} <= {"strong", "acceptable"}, ciphers
            for cipher in ciphers:
                assert re.match("TLS_|ECDHE-.*(GCM|CHACHA20)", cipher["cipher"]), cipher
                assert int(cipher["bits"]) >= 128
            for flaw in ("compression", "renegotiation"):
                for it in found.iter(flaw):
                    assert it.get("supported") != "1" or it.get("secure") == "1", (flaw, it.attrib)
            assert all(it.get("vulnerable") == "0" for it in found.iter("heartbleed"))

    @needs("openssl")
    def test_a_client_that_comes_back_is_spared_the_handshake(self) -> object:
        return self.play(self._resume)

    def _resume(self) -> None:
        server = self.server(services=ALL)
        server.start()
        address = server.address("submissions")
        for version in ("-tls1_2", "-tls1_3"):
            ticket = str(server.directory / f"ticket{version}")
            quit = b"QUIT\r\n"
            assert b"New, TLSv1" in s_client(address, version, "-ign_eof", "-sess_out", ticket, say=quit)
            # Which worker made a ticket, only that one can read it: our OpenSSL lets nobody hand on the keys.
            for _ in range(40 if self.workers else 1):
                said = s_client(address, version, "-ign_eof", "-sess_in", ticket, say=quit)
                if b"Reused, TLSv1" in said:
                    break
            else:
                raise AssertionError(said)


class OldDeviceTests(ServerTestCase):
    """A copier of 2009 is let in from its network, and from nowhere else."""

    @needs("openssl")
    def test_old_tls_by_network(self) -> object:
        return self.play(self._old)

    def _old(self) -> None:
        server = self.server(services=ALL)
        with server.config.open("a") as file:
            file.write('[[network]]\nname = "copiers"\ncidrs = ["127.0.0.9/32"]\ntls_minimum = "1.0"\n')
        server.start()
        old = ("-tls1", "-cipher", "ALL:@SECLEVEL=0", "-ign_eof")
        for service, more in [("submissions", ()), ("pop3s", ()), ("smtp", ("-starttls", "smtp"))]:
            address = server.address(service)
            copier = s_client(address, "-bind", "127.0.0.9:0", *old, *more, say=b"QUIT\r\n")
            assert b"TLSv1\n" in copier, copier
            stranger = s_client(address, "-bind", "127.0.0.8:0", *old, *more, say=b"QUIT\r\n")
            assert b"Cipher is (NONE)" in stranger, stranger
