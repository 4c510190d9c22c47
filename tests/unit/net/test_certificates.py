"""Certificates in files: read, held together, worried about, made."""

import os
import pickle
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mailserver.net.certificates import (
    BadCertificate,
    ensure_self_signed,
    fits,
    read_directory,
    read_pair,
    warnings,
)
from tests.support.certificates import credentials, issued, loaded, shown

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


class TestSelfSigned:
    def test_made_once(self, tmp_path: Path) -> None:
        made = ensure_self_signed(tmp_path / "tls", "mail.example.lan", NOW)
        before = made.file.read_bytes()
        assert ensure_self_signed(tmp_path / "tls", "mail.example.lan", NOW).chain == made.chain
        assert made.file.read_bytes() == before

    def test_names_the_host_and_lasts(self, tmp_path: Path) -> None:
        made = ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        assert made.carried == {"mail.example.lan"}
        assert made.expiry > NOW + timedelta(days=3000)
        assert isinstance(made.chain[0].public_key(), ec.EllipticCurvePublicKey)

    def test_key_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            file = ensure_self_signed(tmp_path / "tls", "mail.example.lan", NOW).file
        finally:
            os.umask(old)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_nothing_else_is_left_behind(self, tmp_path: Path) -> None:
        made = ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        assert list(tmp_path.iterdir()) == [made.file]

    @pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", None])
    def test_a_damaged_file_is_replaced(self, tmp_path: Path, damage: bytes | None) -> None:
        file = ensure_self_signed(tmp_path, "mail.example.lan", NOW).file
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
        ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        read_pair(file, file)

    def test_another_name_or_its_end_replaces_it(self, tmp_path: Path) -> None:
        first = ensure_self_signed(tmp_path, "mail.example.lan", NOW)
        second = ensure_self_signed(tmp_path, "other.example.lan", NOW)
        third = ensure_self_signed(tmp_path, "other.example.lan", NOW + timedelta(days=3640))
        assert len({made.chain[0].serial_number for made in (first, second, third)}) == 3

    def test_a_name_longer_than_a_common_name(self, tmp_path: Path) -> None:
        name = f"{'a' * 60}.{'b' * 60}.example"
        assert ensure_self_signed(tmp_path, name, NOW).carried == {name}


class TestPair:
    def test_the_chain_and_its_names(self, ca: trustme.CA, tmp_path: Path) -> None:
        pair = credentials(ca.create_child_ca(), tmp_path, "Mail.example.lan", "*.example.org", "192.0.2.1")
        assert pair.carried == {"mail.example.lan", "*.example.org"}
        assert len(pair.chain) == 2

    @pytest.mark.parametrize("kind", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
    def test_another_process_gets_all_of_it(
        self, ca: trustme.CA, tmp_path: Path, kind: trustme.KeyType
    ) -> None:
        there = credentials(ca.create_child_ca(), tmp_path, "mail.example.lan", key_type=kind)
        told = evolve(there, name="mail.example.lan-0001")
        there.file.unlink()  # it is handed on, not read again
        here = pickle.loads(pickle.dumps(told))
        assert (here.file, here.chain, here.name) == (there.file, there.chain, "mail.example.lan-0001")
        assert here.key.private_numbers() == there.key.private_numbers()
        assert shown(loaded(here), "mail.example.lan") == "mail.example.lan"

    def test_a_missing_file_is_named(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, _ = issued(ca, tmp_path, "mail.example.lan")
        with pytest.raises(BadCertificate, match=r"gone\.pem: No such file") as caught:
            read_pair(chain, tmp_path / "gone.pem")
        assert caught.value.file == tmp_path / "gone.pem"

    def test_half_a_chain(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, key = issued(ca, tmp_path, "mail.example.lan")
        chain.write_bytes(b"half written")
        with pytest.raises(BadCertificate, match=r"fullchain\.pem: no PEM certificate"):
            read_pair(chain, key)

    def test_a_foreign_key(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, _ = issued(ca, tmp_path / "a", "mail.example.lan")
        _, key = issued(ca, tmp_path / "b", "mail.example.lan")
        with pytest.raises(BadCertificate, match="not the key of"):
            read_pair(chain, key)

    def test_a_key_that_is_none(self, ca: trustme.CA, tmp_path: Path) -> None:
        chain, key = issued(ca, tmp_path, "mail.example.lan")
        with pytest.raises(BadCertificate, match="no PEM private key"):
            read_pair(chain, chain)
        key.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        with pytest.raises(BadCertificate, match="passphrase"):
            read_pair(chain, key)

    def test_a_key_that_is_too_short_for_openssl(self, tmp_path: Path) -> None:
        key = rsa.generate_private_key(65537, 1024)
        name = x509.Name([])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = tmp_path / "both.pem"
        file.write_bytes(certificate + private)
        with pytest.raises(BadCertificate, match=r"both\.pem: not usable for TLS"):
            read_pair(file, file)


class TestDirectory:
    def test_certbots_layout(self, ca: trustme.CA, tmp_path: Path) -> None:
        issued(ca, tmp_path / "archive" / "1", "mail.example.org")
        live = tmp_path / "live" / "Mail.example.org"
        live.mkdir(parents=True)
        for name in ("fullchain.pem", "privkey.pem"):
            (live / name).symlink_to(tmp_path / "archive" / "1" / name)
        (tmp_path / "live" / "README").write_text("This directory contains your keys and certificates.")
        (tmp_path / "live" / ".hidden").mkdir()
        issued(ca, tmp_path / "live" / "a.example.org", "a.example.org")
        found, bad = read_directory(tmp_path / "live")
        assert [pair.name for pair in found] == ["mail.example.org", "a.example.org"]
        assert bad == ()

    def test_none(self, tmp_path: Path) -> None:
        assert read_directory(tmp_path / "absent") == ((), ())

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "certs").write_text("")
        found, (bad,) = read_directory(tmp_path / "certs")
        assert (found, str(bad)) == ((), f"{tmp_path}/certs: Not a directory")

    def test_one_that_is_bad_does_not_hide_the_others(self, ca: trustme.CA, tmp_path: Path) -> None:
        (tmp_path / "bad.example.org").mkdir()
        issued(ca, tmp_path / "good.example.org", "good.example.org")
        found, (bad,) = read_directory(tmp_path)
        assert [pair.name for pair in found] == ["good.example.org"]
        assert bad.file == tmp_path / "bad.example.org" / "fullchain.pem"


class TestWorries:
    @pytest.mark.parametrize(
        ("carried", "name", "fit"),
        [
            ("mail.example.org", "mail.example.org", True),
            ("*.example.org", "mail.example.org", True),
            ("*.example.org", "example.org", False),
            ("*.example.org", "a.b.example.org", False),
            ("mail.example.org", "example.org", False),
        ],
    )
    def test_fits(self, ca: trustme.CA, tmp_path: Path, carried: str, name: str, fit: bool) -> None:
        assert fits(credentials(ca, tmp_path, carried), name) is fit

    @pytest.mark.parametrize(
        ("end", "name", "expected"),
        [
            (NOW + timedelta(days=90), "mail.example.org", []),
            (NOW + timedelta(days=90), "", []),
            (NOW + timedelta(days=14, hours=1), "mail.example.org", []),
            (NOW + timedelta(days=13), "mail.example.org", ["expires on 2026-05-14, in 13 days: renew it"]),
            (NOW - timedelta(days=1), "mail.example.org", ["expired on 2026-04-30: clients refuse it"]),
            (
                NOW + timedelta(days=90),
                "www.example.org",
                ["is not for www.example.org but for mail.example.org"],
            ),
        ],
    )
    def test_what_is_told(
        self, ca: trustme.CA, tmp_path: Path, end: datetime, name: str, expected: list[str]
    ) -> None:
        pair = credentials(
            ca, tmp_path, "mail.example.org", not_before=NOW - timedelta(days=2000), not_after=end
        )
        assert list(warnings(pair, name, NOW)) == expected

    def test_not_valid_yet(self, ca: trustme.CA, tmp_path: Path) -> None:
        pair = credentials(ca, tmp_path, "mail.example.org", not_before=NOW + timedelta(days=20_000))
        assert list(warnings(pair, "", NOW)) == ["is not valid yet: is this machine's clock right?"]
