"""Passwords at rest: the ``{SCHEME}…`` spellings of the users file, checked and made.

New passwords are stored as ``{ARGON2ID}``. What people bring along is understood as Dovecot spells it:

===================================  ================================================================
``ARGON2ID`` ``ARGON2I``             RFC 9106, through argon2-cffi
``SCRYPT``                           RFC 7914: ``$scrypt$ln=15,r=8,p=1$salt$hash``, base64 without padding
``BLF-CRYPT``                        bcrypt; it never looked beyond 72 octets, so neither is more compared
``SHA512-CRYPT`` ``SHA256-CRYPT``    the C library's crypt(3); needs libcrypt
``MD5-CRYPT`` ``CRYPT``              the same; ``CRYPT`` is any of them, yescrypt included
``SSHA512`` ``SSHA256`` ``SSHA``     base64 of digest and salt (RFC 2307 as extended by OpenLDAP)
``PLAIN``                            the password itself: for rehearsals
===================================  ================================================================

A hash without ``{SCHEME}`` is understood where it begins with ``$``. :func:`verify` takes as long as the
hash was made to take, tens of milliseconds, and therefore runs in a thread of its own pool; all schemes
but ``SSHA`` and ``PLAIN`` let go of the interpreter lock while they work. It never raises: what cannot be
checked does not match, and is logged. :func:`fault` finds the same at load time, without any hashing.

New passwords are stored as SASLprep has them (RFC 4616 §2): it does not matter how a keyboard composes an
accent. What came from elsewhere may have been hashed as it was: a password is tried as given first.
"""

import base64
import binascii
import ctypes
import hashlib
import hmac
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from attrs import frozen
from twisted.logger import Logger

from mailserver.wire.saslprep import prepared, saslprep
from mailserver.wire.syntax import BadSyntax

__all__ = [
    "DECOY",
    "LONGEST",
    "BadPassword",
    "check_password",
    "fault",
    "hash_password",
    "is_plain",
    "scheme_of",
    "verify",
]

LONGEST = 1024
"""Octets of the longest password that is looked at; a longer one would make hashing itself an attack."""

DECOY = (
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$ZGVjb3ktZGVjb3ktMTY$q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"
)
"""A hash that costs what a new one costs and matches nothing anybody knows."""

# RFC 9106 §4 asks for more memory; 19 MB is OWASP's least, so that a few logins at once are no attack.
_ARGON2 = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)

_log = Logger()


class BadPassword(ValueError):
    """A password that cannot be one: empty, too long, or with a NUL."""


class _Malformed(Exception):
    """The stored hash is not one of its scheme, or this system cannot check it."""


@frozen
class _Scheme:
    shape: re.Pattern[str]
    matches: Callable[[str, bytes], bool]
    needs_libcrypt: bool = False


def hash_password(password: str | bytes) -> str:
    """What to store for a password, with its scheme. Blocks while it hashes.

    :raises BadPassword: see :func:`check_password`.
    """
    octets = password.encode() if isinstance(password, str) else password
    check_password(octets)
    return "{ARGON2ID}" + _ARGON2.hash(prepared(octets))


def check_password(octets: bytes) -> None:
    """Raise :class:`BadPassword` for what :func:`hash_password` would not take.

    That is what is empty, longer than :data:`LONGEST` octets, or holds a NUL, CR or LF; and of what is not
    ASCII, what SASLprep prohibits.
    """
    if not octets:
        raise BadPassword("the password is empty")
    if len(octets) > LONGEST:
        raise BadPassword(f"the password is longer than {LONGEST} octets")
    if any(octet in octets for octet in (b"\0", b"\r", b"\n")):
        raise BadPassword("the password holds a NUL or a line end")
    if not octets.isascii():
        try:
            saslprep(octets.decode("utf-8"), stored=True)
        except UnicodeDecodeError:
            return  # some program's: it is compared octet by octet
        except BadSyntax as error:
            raise BadPassword(f"the password cannot be one: {error}") from None


def verify(stored: str, password: bytes) -> bool:
    """Whether ``password`` is the one that ``stored`` was made from. Blocks; never raises."""
    if len(password) > LONGEST or b"\0" in password:
        return False
    name, hashed = _split(stored)
    scheme = _SCHEMES.get(name)
    if scheme is None or not scheme.shape.fullmatch(hashed):
        _log.error(
            "a stored password of scheme {scheme} is malformed: nobody can log in with it", scheme=name
        )
        return False
    try:
        return any(scheme.matches(hashed, it) for it in dict.fromkeys((password, prepared(password))))
    except Exception as error:
        # The text of an error may quote the hash, so only its kind is told.
        _log.error(
            "a stored password of scheme {scheme} cannot be checked: {kind}",
            scheme=name,
            kind=type(error).__name__,
        )
        return False


def fault(stored: str) -> str | None:
    """What is wrong with a stored password, without hashing anything; ``None`` if nothing is.

    The text never quotes the password.
    """
    name, hashed = _split(stored)
    scheme = _SCHEMES.get(name)
    if not name:
        return "has no {SCHEME}: write {PLAIN}… or set it with mailctl user passwd"
    if scheme is None:
        return f"scheme {{{name}}} is not known"
    if not hashed:
        return "is empty"
    if not scheme.shape.fullmatch(hashed):
        return f"is not a {{{name}}} hash"
    if scheme.needs_libcrypt and not hashed.startswith("$2") and _libcrypt() is None:
        return f"{{{name}}} needs libcrypt, which this system lacks"
    return None


def is_plain(stored: str) -> bool:
    """Whether the password can be read from the file."""
    return scheme_of(stored) == "PLAIN"


def scheme_of(stored: str) -> str:
    """The name of the scheme in capitals; empty if there is none."""
    return _split(stored)[0]


_PREFIXES = (
    ("$argon2id$", "ARGON2ID"),
    ("$argon2i$", "ARGON2I"),
    ("$scrypt$", "SCRYPT"),
    ("$2", "BLF-CRYPT"),
    ("$", "CRYPT"),
)


def _split(stored: str) -> tuple[str, str]:
    if stored.startswith("{"):
        name, brace, hashed = stored[1:].partition("}")
        return (name.upper(), hashed) if brace else ("", stored)
    return next((name for prefix, name in _PREFIXES if stored.startswith(prefix)), ""), stored


def _argon2(hashed: str, password: bytes) -> bool:
    try:
        return _ARGON2.verify(hashed, password)
    except InvalidHashError:
        raise
    except VerificationError:
        return False


def _scrypt(hashed: str, password: bytes) -> bool:
    _, _, costs, salt, digest = hashed.split("$")
    cost = {key: int(value) for key, _, value in (pair.partition("=") for pair in costs.split(","))}
    n, r, p = 1 << cost["ln"], cost["r"], cost["p"]
    wanted = _unpadded(digest)
    memory = 128 * r * (n + p + 2)
    got = hashlib.scrypt(
        password, salt=_unpadded(salt), n=n, r=r, p=p, maxmem=memory + 2**20, dklen=len(wanted)
    )
    return hmac.compare_digest(got, wanted)


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _bcrypt(hashed: str, password: bytes) -> bool:
    # bcrypt the function stops at 72 octets; bcrypt the library refuses to be given more.
    return bcrypt.checkpw(password[:72], hashed.encode())


def _crypt(hashed: str, password: bytes) -> bool:
    if hashed.startswith("$2"):
        return _bcrypt(hashed, password)
    crypt_r = _libcrypt()
    if crypt_r is None:
        raise _Malformed("no libcrypt")
    # struct crypt_data is 128 KB in glibc and 32 KB in libxcrypt; a zeroed one of our own per call is
    # what makes crypt_r safe in threads.
    scratch = ctypes.create_string_buffer(256 * 1024)
    got = crypt_r(password, hashed.encode(), scratch)
    if not got or got.startswith(b"*"):
        raise _Malformed("crypt(3) refuses the hash")
    return hmac.compare_digest(got, hashed.encode())


@cache
def _libcrypt() -> Any:
    for name in ("libcrypt.so.1", "libcrypt.so.2", "libcrypt.so"):
        try:
            crypt_r = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        crypt_r.restype = ctypes.c_char_p
        crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
        return crypt_r
    return None


def _salted(algorithm: str) -> Callable[[str, bytes], bool]:
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size

    def matches(hashed: str, password: bytes) -> bool:
        try:
            octets = base64.b64decode(hashed, validate=True)
        except binascii.Error:
            raise _Malformed("not base64") from None
        if len(octets) < length:
            raise _Malformed("too short")
        got = hashlib.new(algorithm, password + octets[length:], usedforsecurity=False).digest()
        return hmac.compare_digest(got, octets[:length])

    return matches


def _plain(hashed: str, password: bytes) -> bool:
    octets = hashed.encode()
    return hmac.compare_digest(octets, password) or hmac.compare_digest(prepared(octets), password)


_B64 = r"[A-Za-z0-9+/]"
_CRYPT64 = r"[./0-9A-Za-z]"
_ARGON2_SHAPE = rf"\$v=19\$m=[0-9]{{1,8}},t=[0-9]{{1,4}},p=[0-9]{{1,3}}\${_B64}{{11,128}}\${_B64}{{16,128}}"
_SCRYPT_SHAPE = rf"\$scrypt\$ln=[12]?[0-9],r=[0-9]{{1,2}},p=[0-9]{{1,2}}\${_B64}{{6,128}}\${_B64}{{22,128}}"
_BCRYPT_SHAPE = rf"\$2[abxy]\$[0-3][0-9]\${_CRYPT64}{{53}}"

_SCHEMES = {
    "ARGON2ID": _Scheme(re.compile(r"\$argon2id" + _ARGON2_SHAPE), _argon2),
    "ARGON2I": _Scheme(re.compile(r"\$argon2i" + _ARGON2_SHAPE), _argon2),
    "SCRYPT": _Scheme(re.compile(_SCRYPT_SHAPE), _scrypt),
    "BLF-CRYPT": _Scheme(re.compile(_BCRYPT_SHAPE), _bcrypt),
    "SHA512-CRYPT": _Scheme(
        re.compile(rf"\$6\$(?:rounds=[0-9]{{1,9}}\$)?[^$:]{{0,16}}\${_CRYPT64}{{86}}"), _crypt, True
    ),
    "SHA256-CRYPT": _Scheme(
        re.compile(rf"\$5\$(?:rounds=[0-9]{{1,9}}\$)?[^$:]{{0,16}}\${_CRYPT64}{{43}}"), _crypt, True
    ),
    "MD5-CRYPT": _Scheme(re.compile(rf"\$1\$[^$:]{{0,8}}\${_CRYPT64}{{22}}"), _crypt, True),
    "CRYPT": _Scheme(
        re.compile(rf"{_BCRYPT_SHAPE}|\$[0-9a-z]{{1,4}}\$[^:\s]{{20,300}}|{_CRYPT64}{{13}}"), _crypt, True
    ),
    "SSHA512": _Scheme(re.compile(rf"{_B64}{{86,172}}={{0,2}}"), _salted("sha512")),
    "SSHA256": _Scheme(re.compile(rf"{_B64}{{43,128}}={{0,2}}"), _salted("sha256")),
    "SSHA": _Scheme(re.compile(rf"{_B64}{{27,107}}={{0,2}}"), _salted("sha1")),
    "PLAIN": _Scheme(re.compile(r"[^\x00\r\n]+"), _plain),
}
