"""The control socket: how ``mailctl`` speaks to the running server. Floor 4.

:mod:`~mailserver.control.server` is the server's end, :mod:`~mailserver.control.client` the other.
"""

__all__: list[str] = []
