"""What started this server, as far as it wants to be told how we are: ``sd_notify`` of systemd.

A unit of ``Type=notify`` learns when the server is ready, reloads and stops; with ``WatchdogSec=`` it
restarts one whose reactor no longer turns. Where nobody asked to be told, nothing is. Whatever goes wrong
while telling changes nothing: the server's work does not depend on it.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["Supervisor"]

_log = Logger()


class Supervisor:
    """Tells systemd.

    :param reactor: gives time.
    :param environment: what the process was started with: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and
        ``WATCHDOG_PID``.
    """

    def __init__(self, reactor: Any, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # @ stands for the NUL with which a name in the abstract namespace begins.
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._watchdog = LoopingCall(self._tell, "WATCHDOG=1")
        self._watchdog.clock = reactor
        self._interval = _watchdog_seconds(environment) / 2

    def ready(self) -> None:
        """The server serves, for the first time or after a reload."""
        self._tell("READY=1")
        if self._address and self._interval and not self._watchdog.running:
            _ = self._watchdog.start(self._interval)

    def reloading(self) -> None:
        """The configuration is being read again; :meth:`ready` follows whatever becomes of it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The server stops."""
        if self._watchdog.running:
            self._watchdog.stop()
        self._tell("STOPPING=1")

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
                channel.sendto(what.encode(), self._address)
        except OSError as error:
            _log.warn("could not tell systemd {what}: {error}", what=what, error=error)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """The time after which systemd takes us for dead; 0: never."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdecimal() else 0.0
