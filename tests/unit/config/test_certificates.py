"""What is said of certificates before anybody sees them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from mailserver.config.certificates import read_certificates
from mailserver.config.values import TLS
from mailserver.net.tls import Version
from tests.support.certificates import issued

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LONG = {"not_before": NOW - timedelta(days=1), "not_after": NOW + timedelta(days=90)}


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def read(base: Path, pair: tuple[Path, Path] | None = None) -> tuple[TLS, list[str]]:
    def shown(path: Path) -> str:
        return str(path.relative_to(base))

    tls = TLS(pair, base / "certs", Version.TLS_1_2)
    tls, problems = read_certificates(tls, "mail.example.lan", shown, NOW)
    return tls, [f"{problem}{'' if problem.fatal else ' (warning)'}" for problem in problems]


def test_none_at_all(tmp_path: Path) -> None:
    tls, problems = read(tmp_path)
    assert (tls.default, tls.named, problems) == (None, (), [])


def test_the_default_is_the_one_that_is_named_as_such(ca: trustme.CA, tmp_path: Path) -> None:
    pair = issued(ca, tmp_path / "own", "mail.example.lan", **LONG)
    issued(ca, tmp_path / "certs" / "mail.example.lan", "mail.example.lan", **LONG)
    tls, problems = read(tmp_path, pair)
    assert tls.default is not None
    assert (tls.default.file, len(tls.named), problems) == (pair[0], 1, [])


@pytest.mark.parametrize("carried", ["mail.example.lan", "*.example.lan"])
def test_the_default_is_else_the_one_for_our_name(ca: trustme.CA, tmp_path: Path, carried: str) -> None:
    issued(ca, tmp_path / "certs" / "a.example.org", "a.example.org", **LONG)
    issued(ca, tmp_path / "certs" / "example.lan-0001", carried, "example.lan", **LONG)
    tls, problems = read(tmp_path)
    assert tls.default is tls.named[1]
    assert problems == []


def test_none_of_them_is_for_our_name(ca: trustme.CA, tmp_path: Path) -> None:
    issued(ca, tmp_path / "certs" / "a.example.org", "a.example.org", **LONG)
    tls, problems = read(tmp_path)
    assert tls.default is None
    assert problems == [
        "certs: none of these is for mail.example.lan: who asks for no other name gets a self-signed one (warning)"
    ]


def test_errors_and_worries_of_all_of_them(ca: trustme.CA, tmp_path: Path) -> None:
    pair = issued(ca, tmp_path / "own", "other.example.lan", **LONG)
    pair[1].write_bytes(b"")
    certs = tmp_path / "certs"
    issued(
        ca, certs / "mail.example.lan", "mail.example.lan", **{**LONG, "not_after": NOW + timedelta(days=3)}
    )
    issued(ca, certs / "wrong.example.org", "right.example.org", **LONG)
    issued(ca, certs / "anything", "thing.example.org", **LONG)
    issued(ca, certs / "_.example.net", "*.example.net", **LONG)
    (certs / "empty.example.org").mkdir()
    _, problems = read(tmp_path, pair)
    assert problems == [
        "own/privkey.pem: no PEM private key in it",
        "certs/empty.example.org/fullchain.pem: No such file or directory",
        "certs/mail.example.lan/fullchain.pem: expires on 2026-05-04, in 3 days: renew it (warning)",
        "certs/wrong.example.org/fullchain.pem: is not for wrong.example.org but for right.example.org (warning)",
    ]


def test_files_that_cannot_be_read_have_been_told_by_the_line_that_names_them(tmp_path: Path) -> None:
    _, problems = read(tmp_path, (tmp_path / "absent.pem", tmp_path / "absent.pem"))
    assert problems == []
