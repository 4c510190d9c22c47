"""Who uses the relay: the clients of listed networks, when they came, what they sent, what went wrong last.

Kept in memory, at most so many, those not seen for longest being forgotten first; written to a JSON file some
seconds after a change, in a thread, whole or not at all, so that ``mailctl devices`` can read it whether the
server runs or not. A crash loses some seconds of it.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import attrs
from attrs import asdict, evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailserver import journal
from mailserver.access.profiles import Profile
from mailserver.files import put_file
from mailserver.model.envelope import Origin
from mailserver.threads import Pool

__all__ = ["DEVICES", "Device", "Devices", "read_devices"]

DEVICES = "devices.json"
"""The file's name, in the state directory."""

_MOST = 5000
_WAIT = 5.0
_LONGEST = 200


@frozen
class Device:
    """One client address.

    :ivar network: the profile's name at its last visit; ``owner`` as well.
    :ivar first: when it first sent or was refused something, in seconds since 1970; ``last``: last.
    :ivar error: what it was last told it may not, and why; empty when there was nothing.
    :ivar erred: when that was.
    """

    address: str
    network: str
    owner: str
    helo: str
    first: float
    last: float
    messages: int = 0
    recipients: int = 0
    error: str = ""
    erred: float = 0.0


def read_devices(path: Path) -> list[Device]:
    """The devices in a file, the last seen first; none where there is no file.

    Raises ``OSError``, or ``ValueError`` for a file that nobody wrote so.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    fields = attrs.fields_dict(Device)
    try:
        devices = [Device(**{name: entry[name] for name in fields}) for entry in entries]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a list of devices") from error
    return sorted(devices, key=lambda device: -device.last)


class Devices:
    """The devices seen.

    :param pool: one thread, for the file.
    :param now: seconds since 1970.
    """

    def __init__(
        self, path: Path, pool: Pool, clock: IReactorTime, now: Callable[[], float], most: int = _MOST
    ) -> None:
        self._path = path
        self._pool = pool
        self._clock = clock
        self._now = now
        self._most = most
        self._devices: OrderedDict[str, Device] = OrderedDict()
        self._timer: IDelayedCall | None = None
        self._saving: Deferred[None] | None = None

    def load(self) -> None:
        """Begin with what an earlier process wrote. Blocks; a file that cannot be read is begun anew."""
        try:
            devices = read_devices(self._path)
        except (OSError, ValueError) as error:
            journal.trouble("devices", error)
            return
        self._devices = OrderedDict((it.address, it) for it in reversed(devices[: self._most]))

    def sent(self, origin: Origin, profile: Profile, recipients: int, messages: int = 1) -> None:
        """A message, or some, came from a client of a listed network; ``recipients`` of all of them."""
        self._put(self._seen(origin, profile, messages, recipients))

    def refused(self, origin: Origin, profile: Profile, error: str) -> None:
        """Such a client was told that it may not."""
        self._put(evolve(self._seen(origin, profile), error=_cut(error), erred=self._now()))

    def list(self) -> tuple[Device, ...]:
        """All, those not seen for longest first."""
        return tuple(self._devices.values())

    async def stop(self) -> None:
        """Write what has changed, and write no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            await self._save()

    def _seen(self, origin: Origin, profile: Profile, messages: int = 0, recipients: int = 0) -> Device:
        """The device as it is now, with so much more that it has sent."""
        now, helo, name, owner = self._now(), _cut(origin.helo), profile.name, profile.owner
        known = self._devices.get(origin.address)
        if known is None:
            return Device(origin.address, name, owner, helo, now, now, messages, recipients)
        messages, recipients = known.messages + messages, known.recipients + recipients
        was = known.error, known.erred
        return Device(origin.address, name, owner, helo, known.first, now, messages, recipients, *was)

    def _put(self, device: Device) -> None:
        self._devices[device.address] = device
        self._devices.move_to_end(device.address)
        if len(self._devices) > self._most:
            self._devices.popitem(last=False)
        if self._timer is None:
            self._timer = self._clock.callLater(_WAIT, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._saving = Deferred.fromCoroutine(self._save())

    async def _save(self) -> None:
        try:
            await self._pool.run(_write, self._path, self.list())
        except Exception as error:
            journal.trouble("devices", error)


def _write(path: Path, devices: tuple[Device, ...]) -> None:
    put_file(path, json.dumps([asdict(device) for device in devices], indent=1).encode() + b"\n")


def _cut(text: str) -> str:
    return text[:_LONGEST]
