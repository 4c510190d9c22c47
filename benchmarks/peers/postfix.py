"""Postfix from Debian's package, on a configuration of its own; needs root.

As it ships, but for: names are not looked up (there is no DNS here), ``smtpd`` may have as many processes
as idle sessions are held, and mail for one domain is put on hold as it comes. ``in_flow_delay = 0`` is the
one setting that its own documentation offers against its habit of slowing down those who send faster than
it delivers; it is measured beside the other.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.server import HERE, QUEUE, USERS, Place, Server, free_port, wait_for

__all__ = ["Postfix", "PostfixUnthrottled"]

_NOBODY = pwd.getpwnam("nobody")

_MAIN = """\
compatibility_level = 3.6
queue_directory = {place}/spool
data_directory = {place}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.bench.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
maillog_file = {place}/log
maillog_file_prefixes = {place}
smtpd_tls_chain_files = {certificate}
smtpd_tls_security_level = may
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{{queue}=HOLD}}
virtual_mailbox_domains = {here}
virtual_mailbox_base = {place}/mail
virtual_mailbox_maps = hash:{place}/etc/boxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
relayhost = [127.0.0.1]:{sink}
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - 1200 smtpd
cleanup    unix n - n - 0     cleanup
qmgr       unix n - n 300 1   qmgr
tlsmgr     unix - - n 1000? 1 tlsmgr
rewrite    unix - - n - -     trivial-rewrite
bounce     unix - - n - 0     bounce
defer      unix - - n - 0     bounce
trace      unix - - n - 0     bounce
verify     unix - - n - 1     verify
proxymap   unix - - n - -     proxymap
proxywrite unix - - n - 1     proxymap
smtp       unix - - n - -     smtp
relay      unix - - n - -     smtp
showq      unix n - n - -     showq
error      unix - - n - -     error
retry      unix - - n - -     error
virtual    unix - n n - -     virtual
anvil      unix - - n - 1     anvil
scache     unix - - n - 1     scache
postlog    unix-dgram n - n - 1 postlogd
"""


class Postfix(Server):
    """Postfix as shipped."""

    name = "postfix"
    title = "Postfix"
    settings = ""

    def __init__(self, place: Place) -> None:
        self._place = place.directory
        self._etc = self._place / "etc"
        self.smtp_port = free_port()
        self._main = _MAIN.format(
            place=self._place,
            certificate=place.certificate,
            queue=QUEUE,
            here=HERE,
            uid=_NOBODY.pw_uid,
            gid=_NOBODY.pw_gid,
            sink=place.sink,
        )

    @staticmethod
    def missing() -> str:
        """What hinders it from being measured here; empty: nothing."""
        if shutil.which("postfix", path="/usr/sbin:/usr/bin") is None:
            return "it is not installed (Debian: postfix)"
        return "" if os.geteuid() == 0 else "it can only be started by root"

    def start(self) -> None:
        for name in ("etc", "spool", "data", "mail"):
            (self._place / name).mkdir(exist_ok=True)
        shutil.chown(self._place / "data", "postfix")
        shutil.chown(self._place / "mail", "nobody")
        (self._etc / "main.cf").write_text(self._main + self.settings)
        (self._etc / "master.cf").write_text(_MASTER.format(port=self.smtp_port))
        (self._etc / "boxes").write_text("".join(f"{user}@{HERE} {user}/\n" for user in USERS))
        self._run("postmap", "-c", str(self._etc), f"hash:{self._etc / 'boxes'}")
        self._run("postfix", "-c", str(self._etc), "start")
        wait_for(self.smtp_port)

    def stop(self) -> None:
        if (self._place / "spool" / "pid" / "master.pid").exists():
            self._run("postfix", "-c", str(self._etc), "stop", check=False)

    @property
    def pid(self) -> int:
        return int((self._place / "spool" / "pid" / "master.pid").read_text())

    def box(self, user: str) -> Path:
        return self._place / "mail" / user

    @property
    def owner(self) -> tuple[int, int]:
        return _NOBODY.pw_uid, _NOBODY.pw_gid

    def _run(self, program: str, *words: str, check: bool = True) -> None:
        with (self._place / "said").open("ab") as said:
            subprocess.run([f"/usr/sbin/{program}", *words], stdout=said, stderr=said, check=check)


class PostfixUnthrottled(Postfix):
    """Postfix without the delay for those who send fast."""

    name = "postfix-unthrottled"
    title = "Postfix, in_flow_delay = 0"
    settings = "in_flow_delay = 0\n"
