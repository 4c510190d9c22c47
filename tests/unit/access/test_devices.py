"""Devices: seen, counted, written in a thread, read again."""

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mailserver.access.devices import Device, Devices, read_devices
from mailserver.access.profiles import Profile
from mailserver.model.envelope import Origin
from mailserver.threads import Pool

LAN = Profile("printers", "the office")


class DevicesTests(TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.clock = Clock()
        self.time = 1000.0
        self.pool = Pool("test", 1, reactor.callFromThread)  # type: ignore[attr-defined]
        self.pool.start()
        self.addCleanup(self.pool.stop)

    def devices(self, **options: Any) -> Devices:
        return Devices(self.path, self.pool, self.clock, lambda: self.time, **options)

    async def test_what_is_kept(self) -> None:
        devices = self.devices()
        devices.sent(Origin("10.0.0.7", helo="copier"), LAN, 2)
        self.time = 2000.0
        devices.sent(Origin("10.0.0.7", helo="copier2"), LAN, 1)
        devices.refused(Origin("10.0.0.8"), LAN, "RCPT <x@y.example>: no")
        await devices.stop()
        assert read_devices(self.path) == [
            Device("10.0.0.7", "printers", "the office", "copier2", 1000.0, 2000.0, 2, 3),
            Device(
                "10.0.0.8",
                "printers",
                "the office",
                "",
                2000.0,
                2000.0,
                0,
                0,
                "RCPT <x@y.example>: no",
                2000.0,
            ),
        ]
        again = self.devices()
        again.load()
        again.sent(Origin("10.0.0.7", helo="copier2"), LAN, 1)
        assert [it.messages for it in again.list() if it.address == "10.0.0.7"] == [3]
        await again.stop()

    async def test_written_once_for_many(self) -> None:
        devices = self.devices()
        for number in range(100):
            devices.sent(Origin(f"10.0.0.{number}"), LAN, 1)
        assert len(self.clock.getDelayedCalls()) == 1
        assert not self.path.exists()
        self.clock.advance(5)
        await self.pool.run(lambda: None)
        assert len(read_devices(self.path)) == 100
        assert self.path.stat().st_mode & 0o777 == 0o600, "errors name senders and recipients"
        await devices.stop()

    async def test_bounded(self) -> None:
        devices = self.devices(most=10)
        for number in range(100):
            devices.sent(Origin(f"10.0.0.{number}", helo="x" * 10_000), LAN, 1)
        assert [it.address for it in devices.list()] == [f"10.0.0.{number}" for number in range(90, 100)]
        assert len(devices.list()[0].helo) == 200
        await devices.stop()

    async def test_a_disk_that_fails_is_no_failure(self) -> None:
        self.path.mkdir()
        devices = self.devices()
        devices.load()
        devices.sent(Origin("10.0.0.7"), LAN, 1)
        await devices.stop()

    def test_a_file_that_nobody_wrote_so(self) -> None:
        assert read_devices(self.path) == []
        for text in ("{", "7", "[7]", json.dumps([{"address": "x"}])):
            self.path.write_text(text)
            with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
                read_devices(self.path)
            self.devices().load()
