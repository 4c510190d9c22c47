"""Stored passwords: each scheme against vectors made elsewhere, and what is malformed."""

import base64
import hashlib
import threading

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailserver.domains import passwords
from mailserver.domains.passwords import DECOY, BadPassword, fault, hash_password, is_plain, scheme_of, verify

WORLD = b"Hello world!"

# (stored, password): crypt(3) vectors from glibc's specification of SHA-crypt and from libxcrypt, bcrypt's
# from crypt_blowfish, scrypt's from RFC 7914 §12, argon2's from the reference implementation.
VECTORS = [
    ("{PLAIN}secret", b"secret"),
    ("{plain}secret", b"secret"),
    ("{PLAIN}sécret", "sécret".encode()),
    (
        "{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJ"
        "uesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        WORLD,
    ),
    ("{SHA256-CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", WORLD),
    ("{MD5-CRYPT}$1$saltstri$YMyguxXMBpd2TEZ.vS/3q1", WORLD),
    ("{CRYPT}$1$saltstri$YMyguxXMBpd2TEZ.vS/3q1", WORLD),
    ("{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57", WORLD),
    ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", WORLD),
    ("{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", b"U*U"),
    ("{CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", b"U*U"),
    ("$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", b"U*U"),
    (
        "{SCRYPT}$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSed"
        "mDDaxyevuUqD7m2DYMvfoswGQA",
        b"password",
    ),
    (
        "{ARGON2ID}$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        b"password",
    ),
]


def _needs_libcrypt(stored):
    return ("CRYPT}" in stored and "$2" not in stored) or stored.startswith("$5")


@pytest.mark.parametrize(("stored", "password"), VECTORS)
def test_vectors(stored, password):
    if _needs_libcrypt(stored) and passwords._libcrypt() is None:
        pytest.skip("no libcrypt here")
    assert fault(stored) is None
    assert verify(stored, password)
    assert not verify(stored, password + b"x")
    assert not verify(stored, b"")


@pytest.mark.parametrize(
    ("scheme", "algorithm"), [("SSHA", "sha1"), ("SSHA256", "sha256"), ("SSHA512", "sha512")]
)
def test_salted(scheme, algorithm):
    digest = hashlib.new(algorithm, b"secret" + b"salt1234").digest()
    stored = "{{{}}}{}".format(scheme, base64.b64encode(digest + b"salt1234").decode())
    assert fault(stored) is None
    assert verify(stored, b"secret")
    assert not verify(stored, b"Secret")


def test_a_new_password_is_argon2id():
    stored = hash_password("sécret")
    assert stored.startswith("{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$")
    assert ":" not in stored
    assert fault(stored) is None
    assert verify(stored, "sécret".encode())
    assert not verify(stored, b"secret")
    assert hash_password("sécret") != stored


def test_every_spelling_of_a_password_is_that_password():
    composed, combining = "sécret", "se\u0301cret"
    for stored in (
        hash_password(composed),
        hash_password(combining),
        "{PLAIN}" + composed,
        "{PLAIN}" + combining,
    ):
        assert verify(stored, composed.encode())
        assert verify(stored, combining.encode())
        assert not verify(stored, b"secret")


def test_what_was_hashed_elsewhere_as_it_was_is_found_as_it_is_given():
    combining = "se\u0301cret".encode()
    digest = base64.b64encode(hashlib.sha256(combining + b"salt1234").digest() + b"salt1234").decode()
    assert verify("{SSHA256}" + digest, combining)
    assert not verify("{SSHA256}" + digest, "sécret".encode())


def test_octets_that_are_no_text_are_compared_as_they_are():
    assert verify(hash_password(b"\xff\xfe"), b"\xff\xfe")


@pytest.mark.parametrize(
    "password",
    ["", "x" * 1025, "é" * 513, "a\0b", "a\nb", "a\rb", "é\x07", "\u00ad", "\ue000", "\u06271", "\U0001f642"],
)
def test_no_passwords(password):
    with pytest.raises(BadPassword):
        hash_password(password)


def test_the_longest_password():
    assert verify(hash_password("x" * 1024), b"x" * 1024)


def test_overlong_and_nul_never_match_not_even_themselves():
    assert not verify("{PLAIN}" + "x" * 1025, b"x" * 1025)
    assert not verify("{PLAIN}a", b"a\0")
    digest = hashlib.sha1(b"a\0b", usedforsecurity=False).digest()
    assert not verify("{SSHA}" + base64.b64encode(digest).decode(), b"a\0b")


def test_bcrypt_looks_at_72_octets():
    stored = "{BLF-CRYPT}$2b$04$RSFD4SFW.sMIZE/wZ8/BaO5CTyafpcyjLMIVce/QdaZDktg2Dx4gW"
    assert verify(stored, b"x" * 72)
    assert verify(stored, b"x" * 80)
    assert not verify(stored, b"x" * 71)


MALFORMED = [
    "",
    "secret",
    "{}secret",
    "{PLAIN}",
    "{PLAIN",
    "{NONESUCH}x",
    "{ARGON2ID}x",
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
    "{ARGON2ID}$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    "{SCRYPT}$scrypt$ln=10$x$y",
    "{BLF-CRYPT}$2y$05$short",
    "{SHA512-CRYPT}$6$salt$short",
    "{SHA256-CRYPT}$6$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
    "{CRYPT}x",
    "{SSHA}x",
    "{SSHA}!!!!",
    "{SSHA512}" + "A" * 20,
]


class Malformed(SynchronousTestCase):
    """What cannot be checked is a problem at load time, and no match and no exception at login time."""

    def test_each(self):
        for stored in MALFORMED:
            trouble = fault(stored)
            assert trouble, stored
            assert "secret" not in trouble
            assert not verify(stored, b"secret")
        assert len(self.flushLoggedErrors()) == 0

    def test_shaped_right_and_yet_refused(self):
        # The shape lets these pass; the libraries do not.
        for stored in (
            "{BLF-CRYPT}$2b$39$RSFD4SFW.sMIZE/wZ8/BaO5CTyafpcyjLMIVce/QdaZDktg2Dx4gW",
            "{ARGON2ID}$argon2id$v=19$m=1,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "{SCRYPT}$scrypt$ln=29,r=99,p=99$TmFDbA$" + "A" * 24,
            "{CRYPT}$zz$" + "x" * 30,
            "{SSHA}" + "A" * 29,
        ):
            assert not verify(stored, b"secret"), stored


def test_a_system_without_libcrypt_is_told(monkeypatch):
    monkeypatch.setattr(passwords, "_libcrypt", lambda: None)
    assert "libcrypt" in fault("{MD5-CRYPT}$1$saltstri$YMyguxXMBpd2TEZ.vS/3q1")
    assert fault("{CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW") is None
    assert not verify("{MD5-CRYPT}$1$saltstri$YMyguxXMBpd2TEZ.vS/3q1", WORLD)


def test_libcrypt_in_threads():
    if passwords._libcrypt() is None:
        pytest.skip("no libcrypt here")
    stored = [("$1$saltstri$YMyguxXMBpd2TEZ.vS/3q1", WORLD), ("{CRYPT}abMbH7WsHr7wQ", WORLD)] * 20
    results = []
    threads = [threading.Thread(target=lambda pair=pair: results.append(verify(*pair))) for pair in stored]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 40


def test_the_decoy_is_sound_and_matches_nothing():
    assert fault(DECOY) is None
    assert not verify(DECOY, b"secret")
    parameters = DECOY.split("$")[3]
    assert hash_password("x").split("$")[3] == parameters


def test_schemes_are_named():
    assert scheme_of("{plain}x") == "PLAIN"
    assert scheme_of("$2y$05$x") == "BLF-CRYPT"
    assert scheme_of("x") == ""
    assert is_plain("{PLAIN}x")
    assert not is_plain(DECOY)
