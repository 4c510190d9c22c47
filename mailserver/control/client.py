"""The other end of the control socket: asks the running server for one thing and waits for the answer.

Blocks; for ``mailctl``, which has no reactor. :mod:`mailserver.control.server` describes the lines.
"""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["NoServer", "Refused", "ask"]


class NoServer(Exception):
    """No server answers on the socket. The text is for the operator."""


class Refused(Exception):
    """The server would not do it, and says why."""


def ask(path: Path, verb: str, request: dict[str, Any], progress: Callable[[Any], None] | None = None) -> Any:
    """Say a verb and return its result.

    :param path: the socket.
    :param progress: called with what the server tells on the way.

    Raises :class:`NoServer` or :class:`Refused`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except PermissionError:
            raise NoServer(f"{path}: permission denied; be root or the server's user") from None
        except OSError:
            raise NoServer(f"no server listens on {path}") from None
        try:
            connection.sendall(json.dumps({"verb": verb, **request}).encode() + b"\n")
            for line in connection.makefile("rb"):
                answer = json.loads(line)
                if "progress" not in answer:
                    break
                if progress is not None:
                    progress(answer["progress"])
            else:
                raise NoServer("the server went away before it answered")
        except (OSError, ValueError) as error:
            raise NoServer(f"the server went away before it answered: {error}") from None
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["done"]
