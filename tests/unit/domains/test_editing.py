"""Changing a users file leaves everything else as it was."""

import os
import stat
import threading

import pytest

from mailserver.domains import editing
from mailserver.domains.editing import NoSuchUser, UserExists, add_user, has_user, remove_user, set_password

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

    monkeypatch.setattr(editing.os, "fsync", fail)
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
