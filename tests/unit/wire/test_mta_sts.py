"""MTA-STS: records and policies, good and bad, and which hosts a policy names."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mailserver.wire.mta_sts import LONGEST_AGE, Mode, Policy, parse_policy, parse_record
from mailserver.wire.syntax import BadSyntax


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1; id=1"], "1"),
        ([b"v=STSv1;id=1;future=x"], "1"),
        ([b"v=STSv1;\tother=y;  id=1 ;"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=1;"], "1"),
        ([], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=" + b"1" * 33], None),
        ([b"v=STSv1; other=1"], None),
        ([b"v=STSv1; id=\xff"], None),
        ([b" v=STSv1; id=1"], None),
        ([b"v=STSv1; id=1", b"v=STSv1; id=1"], None),
    ],
)
def test_records(texts: list[bytes], expected: str | None) -> None:
    if expected is None:
        with pytest.raises(BadSyntax):
            parse_record(texts)
    else:
        assert parse_record(texts) == expected


GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, Policy(Mode.ENFORCE, 604800, ("mail.example.com", "*.example.net"))),
        (GOOD.replace(b"\r\n", b"\n"), Policy(Mode.ENFORCE, 604800, ("mail.example.com", "*.example.net"))),
        (
            b"version:STSv1\n\nmode :\ttesting  \nmx:a\nmax_age: 1\nfuture: x: y\nmode: none",
            Policy(Mode.TESTING, 1, ("a",)),
        ),
        (b"version: STSv1\nmode: none\nmax_age: 99999999999"[:-1], Policy(Mode.NONE, LONGEST_AGE)),
        (b"version: STSv1\nmode: none\nmax_age: 99999999999", None),
        (GOOD.replace(b"STSv1", b"STSv2"), None),
        (GOOD.replace(b"version: STSv1\r\n", b""), None),
        (GOOD.replace(b"enforce", b"report"), None),
        (GOOD.replace(b"mode: enforce\r\n", b""), None),
        (GOOD.replace(b"604800", b"a week"), None),
        (GOOD.replace(b"604800", b"-1"), None),
        (GOOD.replace(b"mail.example.com", b"mail.*.com"), None),
        (GOOD.replace(b"mail.example.com", b""), None),
        (b"version: STSv1\nmode: enforce\nmax_age: 1", None),
        (GOOD + b"<html>", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_policies(text: bytes, expected: Policy | None) -> None:
    if expected is None:
        with pytest.raises(BadSyntax):
            parse_policy(text)
    else:
        assert parse_policy(text) == expected


@given(some.binary(max_size=300))
def test_nothing_else_is_ever_raised(text: bytes) -> None:
    for parse in (parse_policy, lambda data: parse_record([b"v=STSv1;" + data])):
        try:
            parse(text)
        except BadSyntax:
            continue


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mail.example.com", True),
        ("mx1.example.net", True),
        ("example.net", False),
        ("a.mx1.example.net", False),
        ("mail.example.com.example", False),
        ("other.example.com", False),
        ("", False),
    ],
)
def test_hosts_of_a_policy(host: str, named: bool) -> None:
    """RFC 8461 §4.1: a wildcard stands for exactly one label, the first."""
    assert parse_policy(GOOD).names(host) is named


@pytest.mark.parametrize(
    "line", [b"a:x" + b" " * 65000 + b"x", b" " * 65000 + b"x", b"a" + b" " * 65000 + b"x"]
)
def test_time_is_linear(line: bytes) -> None:
    """A stranger's file is read in the thread that serves everybody."""
    begun = time.process_time()
    for _ in range(5):
        try:
            parse_policy(GOOD + line)
        except BadSyntax:
            continue
    assert time.process_time() - begun < 2.0
