"""Dovecot's POP3 server from Debian's package, on a configuration of its own; needs root.

As it ships: every login in a process of its own, which ends with it. And tuned for speed, as its manual
says in "Login processes": they serve many logins, and the processes behind them are used again. In both
settings as many sessions may come from one address as there are, and limits fit the idle sessions that are
held.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.server import CROWD, PASSWORD, Place, Server, free_port, wait_for

__all__ = ["Dovecot", "DovecotTuned"]

_NOBODY = pwd.getpwnam("nobody")

_CONFIGURATION = """\
base_dir = {place}/run
state_dir = {place}/state
log_path = {place}/log
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
mail_location = maildir:{place}/mail/%n
mail_max_userip_connections = 0
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = username_format=%n {place}/passwd
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={place}/mail/%n
}}
default_client_limit = 4000
service anvil {{
  client_limit = 7000
}}
service auth {{
  client_limit = 7000
}}
service pop3-login {{
  process_limit = 1200
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
{login}
}}
service pop3 {{
{pop3}
}}
"""


class Dovecot(Server):
    """Dovecot as shipped."""

    name = "dovecot"
    title = "Dovecot"
    login = ""
    pop3 = ""

    def __init__(self, place: Place) -> None:
        self._place = place.directory
        self.pop3_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str:
        """What hinders it from being measured here; empty: nothing."""
        if shutil.which("dovecot", path="/usr/sbin:/usr/bin") is None:
            return "it is not installed (Debian: dovecot-pop3d)"
        return "" if os.geteuid() == 0 else "it can only be started by root"

    def start(self) -> None:
        (self._place / "mail").mkdir(exist_ok=True)
        shutil.chown(self._place / "mail", "nobody")
        users = self._place / "passwd"
        users.write_text("".join(f"{user}:{{PLAIN}}{PASSWORD}::::::\n" for user in CROWD))
        users.chmod(0o644)
        text = _CONFIGURATION.format(
            place=self._place,
            port=self.pop3_port,
            uid=_NOBODY.pw_uid,
            gid=_NOBODY.pw_gid,
            login=self.login,
            pop3=self.pop3,
        )
        config = self._place / "dovecot.conf"
        config.write_text(text)
        with (self._place / "said").open("ab") as said:
            self._process = subprocess.Popen(
                ["/usr/sbin/dovecot", "-F", "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        wait_for(self.pop3_port)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(30)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def box(self, user: str) -> Path:
        return self._place / "mail" / user

    @property
    def owner(self) -> tuple[int, int]:
        return _NOBODY.pw_uid, _NOBODY.pw_gid


class DovecotTuned(Dovecot):
    """Dovecot with login processes that are reused, outside their chroot."""

    name = "dovecot-tuned"
    title = "Dovecot, tuned"
    login = "  service_count = 0\n  process_min_avail = 2\n  chroot ="
    pop3 = "  service_count = 100"
