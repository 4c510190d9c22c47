"""``access.…``: who is locked out after wrong passwords, and to be let in again.

=================  ==============================  ============================================
verb               request                         returns
=================  ==============================  ============================================
``access.list``                                    a list of ``client``, ``account``, ``seconds``
``access.lift``    ``client``, an IP address       how many ``locks`` that opened
=================  ==============================  ============================================
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import asdict

from mailserver.control.server import Declined, Tell, Verb
from mailserver.interfaces import ILockout

__all__ = ["access_verbs"]


def access_verbs(lockout: ILockout) -> dict[str, Verb]:
    """The verbs, by name."""
    return {"access.list": partial(_list, lockout), "access.lift": partial(_lift, lockout)}


async def _list(lockout: ILockout, request: Mapping[str, Any], tell: Tell) -> object:
    return [asdict(lock) for lock in lockout.locks()]


async def _lift(lockout: ILockout, request: Mapping[str, Any], tell: Tell) -> object:
    client = request.get("client")
    if not isinstance(client, str):
        raise Declined("no client is named")
    return {"locks": lockout.lift(client)}
