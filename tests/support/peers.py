"""Postfix and chasquid as mail hosts on loopback: private instances in directories of their own.

Both need root. What they take lies in a directory, one file a message.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailserver.net.certificates import ensure_self_signed

__all__ = ["chasquid", "needs_chasquid", "needs_postfix", "postfix"]

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# chasquid asks DNS about senders (SPF): nobody answers it here, at once.
_NO_DNS = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"')

_MAIN = """compatibility_level = 3.6
queue_directory = {place}/spool
data_directory = {place}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example
mydestination =
mynetworks =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
recipient_delimiter = +
smtpd_relay_restrictions = reject_unauth_destination
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
maillog_file = {place}/log
maillog_file_prefixes = {place}
in_flow_delay = 0
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {box}
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 100
default_transport = error:nothing goes out from here
"""

_MASTER = """{address}:{port} inet n - n - - smtpd
cleanup    unix       n - n -    0 cleanup
qmgr       unix       n - n 300  1 qmgr
rewrite    unix       - - n -    - trivial-rewrite
bounce     unix       - - n -    0 bounce
defer      unix       - - n -    0 bounce
trace      unix       - - n -    0 bounce
verify     unix       - - n -    1 verify
proxymap   unix       - - n -    - proxymap
error      unix       - - n -    - error
retry      unix       - - n -    - error
virtual    unix       - n n -    - virtual
anvil      unix       - - n -    1 anvil
postlog    unix-dgram n - n -    1 postlogd
"""

_CHASQUID = """hostname: "chasquid.example"
smtp_address: "{address}:{port}"
submission_address: "{address}:0"
data_dir: "{place}/data"
mail_log_path: "{place}/maillog"
mail_delivery_agent_bin: "{place}/take"
mail_delivery_agent_args: "{box}"
"""


def _needs(program: str) -> pytest.MarkDecorator:
    absent = shutil.which(program, path=_PATH) is None or os.geteuid() != 0
    return pytest.mark.skipif(absent, reason=f"{program} is not installed, or we are not root")


needs_postfix = _needs("postfix")
needs_chasquid = _needs("chasquid")


@contextmanager
def postfix(address: str, port: int, domains: Sequence[str]) -> Iterator[Path]:
    """Postfix, final for these domains; gives the directory with what it takes."""
    with _place() as place:
        box = place / "box"
        for name in ("etc", "spool", "data", "box"):
            (place / name).mkdir()
        shutil.chown(place / "data", "postfix")
        shutil.chown(box, 65534)
        main = _MAIN.format(place=place, box=place, domains=", ".join(domains))
        (place / "etc" / "main.cf").write_text(main)
        (place / "etc" / "master.cf").write_text(_MASTER.format(address=address, port=port))
        command = ["postfix", "-c", str(place / "etc")]
        environment = {**os.environ, "PATH": _PATH}
        done = subprocess.run([*command, "start"], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        try:
            _wait(address, port)
            yield box / "new"
        finally:
            subprocess.run([*command, "abort"], env=environment, capture_output=True, check=False)


@contextmanager
def chasquid(address: str, port: int, domains: Sequence[str]) -> Iterator[Path]:
    """chasquid, with one user, ``box``, in each of these domains; gives the directory with what it takes."""
    with _place() as place:
        etc, box, take = place / "etc", place / "box", place / "take"
        box.mkdir()
        (etc / "certs" / "chasquid.example").mkdir(parents=True)
        ensure_self_signed(place / "tls", "chasquid.example")
        for name in ("fullchain.pem", "privkey.pem"):
            # Key and certificate in one file, which is both.
            shutil.copy(place / "tls" / "self-signed.pem", etc / "certs" / "chasquid.example" / name)
        take.write_text('#!/bin/sh\nn=$(mktemp "$1/.XXXXXXXXXX") && cat >"$n" && mv "$n" "$1/${n##*.}"\n')
        take.chmod(0o755)
        (place / "resolv.conf").write_text("nameserver 127.0.77.53\noptions timeout:1 attempts:1\n")
        (etc / "chasquid.conf").write_text(_CHASQUID.format(place=place, box=box, address=address, port=port))
        _add_users(etc, domains)
        command = ["chasquid", "-config_dir", str(etc), "-logfile", str(place / "log")]
        server = subprocess.Popen(
            [*_NO_DNS, str(place / "resolv.conf"), *command],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait(address, port)
            yield box
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


def _add_users(etc: Path, domains: Sequence[str]) -> None:
    first = etc / "domains" / domains[0]
    first.mkdir(parents=True)
    subprocess.run(
        ["chasquid-util", f"-C={etc}", "user-add", f"box@{domains[0]}", "--password=x"],
        check=True,
        capture_output=True,
    )
    for domain in domains[1:]:
        shutil.copytree(first, etc / "domains" / domain)


@contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


def _wait(address: str, port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((address, port), 5).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody answers at {address}:{port}"
            time.sleep(0.05)
        else:
            return
