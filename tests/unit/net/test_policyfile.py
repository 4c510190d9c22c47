"""Policies on disk: they outlive the process, are bounded, and a damaged file is set aside."""

from pathlib import Path

from attrs import evolve

from mailserver.net.policyfile import PolicyFile, Row

ROW = Row("example.org", "1", 1000.0, b"version: STSv1\n")


def test_kept(tmp_path: Path) -> None:
    path = tmp_path / "mta-sts.sqlite"
    assert PolicyFile(path).read() == []
    PolicyFile(path).put(ROW)
    newer = evolve(ROW, id="2", fetched=2000.0)
    PolicyFile(path).put(evolve(ROW, domain="example.net"))
    PolicyFile(path).put(newer)
    assert PolicyFile(path).read() == [evolve(ROW, domain="example.net"), newer]
    assert path.stat().st_mode & 0o777 == 0o600


def test_bounded(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path / "x", most=3)
    for number in range(10):
        file.put(evolve(ROW, domain=f"d{number}.example", fetched=float(number)))
    assert [row.domain for row in file.read()] == ["d7.example", "d8.example", "d9.example"]


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"no database " * 1000)
    PolicyFile(path).put(ROW)
    assert PolicyFile(path).read() == [ROW]
    assert (tmp_path / "x.damaged").read_bytes().startswith(b"no database")
