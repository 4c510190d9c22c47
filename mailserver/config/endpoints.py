"""Endpoint strings, checked without opening anything.

Twisted's own parser is asked, with a reactor that does nothing, so whatever a plugin of Twisted adds
is understood; ``haproxy:`` before an endpoint is taken off, as it is for listening. What Twisted leaves until
the listening, a port out of range or an interface that is a name, is found here.
"""

import os
from ipaddress import ip_address

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mailserver.net.proxy import PREFIX

__all__ = ["check_endpoint"]


class _NoReactor:
    """Is asked to listen, looks at the arguments, and does not."""

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> None:
        """Check what would be listened on."""
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port} is not between 0 and 65535")
        if interface:
            try:
                ip_address(interface)
            except ValueError:
                raise ValueError(f'the interface "{interface}" is not an IP address') from None


def check_endpoint(text: str) -> str:
    """The text itself.

    :raises ValueError: it is no endpoint; the text says why.
    """
    try:
        endpoint = serverFromString(_NoReactor(), text.removeprefix(PREFIX))
    except (LookupError, AttributeError) as error:
        # Sockets that systemd hands over are there only when systemd starts us.
        if "systemd:" in text and "LISTEN_FDS" not in os.environ and isinstance(error, LookupError):
            return text
        raise ValueError(f'"{text}" is not an endpoint: {error}') from None
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f'"{text}" is not an endpoint: {_plainly(error)}') from None
    if isinstance(endpoint, (TCP4ServerEndpoint, TCP6ServerEndpoint)):
        failures: list[Failure] = []
        _ = endpoint.listen(Factory()).addErrback(failures.append)
        for failure in failures:
            raise ValueError(f'"{text}" is not an endpoint: {failure.getErrorMessage()}')
    return text


def _plainly(error: Exception) -> str:
    if isinstance(error, TypeError):
        return "an argument is missing or is one too many"
    return str(error)
