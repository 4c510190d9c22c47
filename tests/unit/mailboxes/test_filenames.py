"""Names of message files: unique, telling, and robust against other programs' names."""

import pytest

from mailserver.mailboxes import filenames
from mailserver.mailboxes.filenames import UniqueNames, disk_size, facts, uid_of, unique_part


def test_unique_names_are_unique_and_fit_an_uid() -> None:
    names = UniqueNames("a-very-long-host-name.of-a.department.example.lan", lambda: 1700000000.25)
    made = [names.make() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert made[0].startswith("1700000000.M250000P")
    assert all(len(name) <= 70 and "/" not in name for name in made)
    assert sorted(reversed(made), key=facts) == made
    assert {facts(name).uid for name in made} == {name.encode() for name in made}
    assert UniqueNames("h", lambda: 1.0).make() != UniqueNames("h", lambda: 1.0).make()


@pytest.mark.parametrize("hostname", ["", "a/b", "a:2,S", "ö", "[::1]"])
def test_the_host_never_disturbs_the_name(hostname: str) -> None:
    name = UniqueNames(hostname, lambda: 1.5).make()
    assert unique_part(filenames.finished(name, 3, 4) + ":2,S") == name
    assert uid_of(name) == name.encode()


@pytest.mark.parametrize(
    ("name", "disk", "wire"),
    [
        ("1.x,S=10,W=12", 10, 12),
        ("1.x,S=10,W=12:2,S", 10, 12),
        ("1.x,W=12,S=10:2,", 10, 12),
        ("1.x,S=10:2,RS", 10, None),
        ("1.x", None, None),
        ("1.x,S=,W=abc", None, None),
        ("1.x,S=-1,W=1e9", None, None),
        ("1.x,S=1٣,W=٣", None, None),
        ("1.x:2,S=5", None, None),
        ("1.x,S=99999999999999999999", None, None),
    ],
)
def test_sizes(name: str, disk: int | None, wire: int | None) -> None:
    assert (disk_size(name), facts(name).size) == (disk, wire)


def test_uid_stays_when_the_file_is_moved_or_marked() -> None:
    plain = "1700000000.M1P2.host"
    for name in (plain, plain + ":2,", plain + ",S=1,W=2:2,FRS", plain + ",S=1"):
        assert uid_of(name) == plain.encode()
    for odd in ("x" * 71, "with space", "umlaut-ü", "\udcff\udcfe"):
        assert uid_of(odd) == uid_of(odd + ",S=1:2,S") != uid_of(odd + "x")
        assert len(uid_of(odd)) == 64


def test_order_of_arrival() -> None:
    names = ["note.txt", "999.M5P1.h", "1000.M2P9Q3.h", "1000.M2P9Q12.h", "1000.M10P1Q1.h,S=1", "20000.x"]
    assert sorted(reversed(names), key=lambda name: (facts(name).arrival, name)) == names


@pytest.mark.parametrize(
    ("name", "arrival", "size", "uid"),
    [
        ("1700000000.M123456P7Q12R0a.mail,S=5,W=6:2,S", (1700000000, 123456, 12), 6, None),
        ("1700000000.M123456P7V08I09.mail,S=5,W=6", (1700000000, 123456, 0), 6, None),
        ("1700000000.M123456P7Q12R0a.mail:2,S", (1700000000, 123456, 12), None, None),
        ("1.M1P1" + "Q1" * 40 + ",S=1,W=2", (1, 1, 1), 2, 64),
        ("1700000000.M1P2Q3.ü,S=1,W=2", (1700000000, 1, 3), 2, 64),
        ("1700000000.V08I09M77.mail,S=5,W=6", (1700000000, 77, 0), 6, None),
    ],
)
def test_all_facts_at_once(
    name: str, arrival: tuple[int, int, int], size: int | None, uid: int | None
) -> None:
    """The quick look at the usual names and the thorough one at all others see the same."""
    found = facts(name)
    assert (found.arrival, found.size) == (arrival, size)
    assert found.uid == uid_of(name)
    assert len(found.uid) == (uid or len(unique_part(name)))
