"""mailctl devices: what the server wrote, for people and for programs."""

import json
import time

import pytest
from attrs import asdict

from mailserver.access.devices import DEVICES, Device


@pytest.fixture
def seen(site, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    devices = [
        Device("10.0.0.7", "printers", "the office", "copier", 0.0, 60.0, 3, 4),
        Device("10.0.0.8", "lan", "", "x\x1b[2J", 0.0, 90.0, 0, 0, "RCPT <a@b.example>: no", 90.0),
    ]
    (site / "var").mkdir()
    (site / "var" / DEVICES).write_text(json.dumps([asdict(device) for device in devices]))
    yield devices
    monkeypatch.undo()
    time.tzset()


def test_none(mailctl):
    assert mailctl("devices") == ""


def test_for_people(mailctl, seen):
    assert mailctl("devices") == (
        "10.0.0.8  lan  HELO x?[2J\n"
        "    1970-01-01 00:00:00 to 1970-01-01 00:01:30  messages: 0  recipients: 0\n"
        "    1970-01-01 00:01:30  RCPT <a@b.example>: no\n"
        "10.0.0.7  printers (the office)  HELO copier\n"
        "    1970-01-01 00:00:00 to 1970-01-01 00:01:00  messages: 3  recipients: 4\n"
    )


def test_of_one_network_for_programs(mailctl, seen):
    assert json.loads(mailctl("devices", "--network", "printers", "--json")) == [asdict(seen[0])]


def test_a_broken_file(mailctl, seen, site):
    (site / "var" / DEVICES).write_text("[7]")
    assert "not a list of devices" in mailctl("devices", status=1)
