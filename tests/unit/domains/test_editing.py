"""Changing a users file leaves everything else as it was."""

import os
import stat
import threading

import pytest

from mailserver.domains import rewriting
from mailserver.domains.editing import (
    NoSuchUser,
    UserExists,
    add_user,
    has_user,
    remove_user,
    set_option,
    set_password,
)

TEXT = "# our people\n\nalice:{PLAIN}secret:quota=50MB\n  # and\nBob:{PLAIN}other\n"


@pytest.fixture
def domain(tmp_path):
    (tmp_path / "users").write_text(TEXT)
    return tmp_path


def test_add(domain):
    add_user(domain, "a.example", "carol", "{PLAIN}x")
    add_user(domain, "a.example", "dave", "{PLAIN}x", "1GB")
    assert (domain / "users").read_text() == TEXT + "carol:{PLAIN}x\ndave:{PLAIN}x:quota=1GB\n"


def test_add_to_nothing_and_to_a_file_without_a_line_end(tmp_path):
    add_user(tmp_path, "a.example", "alice", "{PLAIN}x")
    assert (tmp_path / "users").read_text() == "alice:{PLAIN}x\n"
    (tmp_path / "users").write_text("alice:{PLAIN}x")
    add_user(tmp_path, "a.example", "bob", "{PLAIN}y")
    assert (tmp_path / "users").read_text() == "alice:{PLAIN}x\nbob:{PLAIN}y\n"


def test_a_name_is_added_once(domain):
    with pytest.raises(UserExists):
        add_user(domain, "a.example", "BOB", "{PLAIN}x")
    assert (domain / "users").read_text() == TEXT
    assert has_user(domain, "a.example", "bob")
    assert not has_user(domain, "a.example", "carol")


def test_set_password_keeps_the_options(domain):
    set_password(domain, "a.example", "Alice", "{PLAIN}new")
    set_password(domain, "a.example", "bob", "{PLAIN}new")
    assert (domain / "users").read_text() == (
        "# our people\n\nalice:{PLAIN}new:quota=50MB\n  # and\nBob:{PLAIN}new\n"
    )
    with pytest.raises(NoSuchUser):
        set_password(domain, "a.example", "carol", "{PLAIN}new")


def test_remove(domain):
    remove_user(domain, "a.example", "alice")
    assert (domain / "users").read_text() == "# our people\n\n  # and\nBob:{PLAIN}other\n"
    with pytest.raises(NoSuchUser):
        remove_user(domain, "a.example", "alice")


def test_broken_lines_and_foreign_octets_stay(tmp_path):
    (tmp_path / "users").write_bytes(b"nonsense\n# caf\xe9\nalice:broken\n")
    set_password(tmp_path, "a.example", "alice", "{PLAIN}x")
    assert (tmp_path / "users").read_bytes() == b"nonsense\n# caf\xe9\nalice:{PLAIN}x\n"


def test_the_file_is_the_owners_alone(domain):
    (domain / "users").chmod(0o644)
    set_password(domain, "a.example", "alice", "{PLAIN}x")
    assert stat.S_IMODE((domain / "users").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_file_keeps_its_owner(domain):
    os.chown(domain / "users", 1234, 1235)
    set_password(domain, "a.example", "alice", "{PLAIN}x")
    after = (domain / "users").stat()
    assert (after.st_uid, after.st_gid) == (1234, 1235)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_new_directory_belongs_to_the_owner_of_the_one_it_is_in(tmp_path):
    os.chown(tmp_path, 1234, 1235)
    rewriting.make_directory(tmp_path / "a.example")
    made = (tmp_path / "a.example").stat()
    assert (made.st_uid, made.st_gid) == (1234, 1235)


def test_a_link_is_followed(domain, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "people"
    (domain / "users").rename(elsewhere)
    (domain / "users").symlink_to(elsewhere)
    remove_user(domain, "a.example", "bob")
    assert (domain / "users").is_symlink()
    assert "Bob" not in elsewhere.read_text()


def test_a_failing_disk_leaves_the_old_file_and_no_litter(domain, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rewriting.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        add_user(domain, "a.example", "carol", "{PLAIN}x")
    assert os.listdir(domain) == ["users"]
    assert (domain / "users").read_text() == TEXT


def test_two_admins_at_once(domain):
    threads = [
        threading.Thread(target=add_user, args=(domain, "a.example", f"user{number}", "{PLAIN}x"))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (domain / "users").read_text().split("\n")
    assert sorted(line for line in lines if line.startswith("user")) == sorted(
        f"user{number}:{{PLAIN}}x" for number in range(20)
    )
    assert os.listdir(domain) == ["users"]


def test_a_verifier_goes_with_its_password(domain):
    add_user(domain, "a.example", "carol", "{PLAIN}x", "1GB", "600000,a=,b=,c=")
    assert (domain / "users").read_text().endswith("carol:{PLAIN}x:quota=1GB:scram=600000,a=,b=,c=\n")
    set_password(domain, "a.example", "carol", "{PLAIN}y", "600000,d=,e=,f=")
    assert (domain / "users").read_text().endswith("carol:{PLAIN}y:quota=1GB:scram=600000,d=,e=,f=\n")
    # The old one must not stay: it would let the old password in.
    set_password(domain, "a.example", "carol", "{PLAIN}z")
    assert (domain / "users").read_text().endswith("carol:{PLAIN}z:quota=1GB\n")


@pytest.mark.parametrize(
    ("option", "value", "options"),
    [
        ("quota", "1GB", ":quota=1GB"),
        ("messages", "5", ":quota=50MB:messages=5"),
        ("disabled", "", ":quota=50MB:disabled"),
        ("quota", None, ""),
        ("disabled", None, ":quota=50MB"),
    ],
)
def test_set_option(domain, option, value, options):
    set_option(domain, "a.example", "ALICE", option, value)
    assert (domain / "users").read_text() == TEXT.replace(":quota=50MB", options)
    set_option(domain, "a.example", "alice", option, value)
    assert (domain / "users").read_text() == TEXT.replace(":quota=50MB", options)
    with pytest.raises(NoSuchUser):
        set_option(domain, "a.example", "carol", option, value)
