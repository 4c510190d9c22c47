"""Dovecot beside our server: on the same Maildir, to compare what both say; or behind it, by LMTP."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["dovecot", "dovecot_lmtp"]


_CONFIGURATION = """
base_dir = {place}/run
state_dir = {place}/state
log_path = {place}/log
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{box}
pop3_uidl_format = %f
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = {place}/passwd
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={place}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
}}
"""


@contextmanager
def dovecot(box: Path, user: str, password: str) -> Iterator[int]:
    """Dovecot for one user, with the files' names as unique-ids; gives its port on 127.0.0.1.

    Needs root. The Maildir, in a directory of the caller's under the one for temporary files, is made over to
    the user that Dovecot reads it as.
    """
    with tempfile.TemporaryDirectory(prefix="dovecot-") as name:
        place, port = Path(name), _free_port()
        place.chmod(0o755)
        subprocess.run(["chown", "-R", "nobody", str(box)], check=True)
        for parent in box.parents:
            if Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(0o755)
        config, users = place / "dovecot.conf", place / "passwd"
        config.write_text(_CONFIGURATION.format(place=place, port=port, box=box))
        users.write_text(f"{user}:{{PLAIN}}{password}::::::\n")
        users.chmod(0o644)
        server = subprocess.Popen(["dovecot", "-F", "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            server.terminate()
            server.wait(20)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


_LMTP = """
base_dir = {place}/run
state_dir = {place}/state
log_path = {place}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
mail_location = maildir:{place}/mail/%u
mail_plugins = quota
postmaster_address = postmaster@example.lan
passdb {{
  driver = passwd-file
  args = {place}/passwd
}}
userdb {{
  driver = passwd-file
  args = {place}/passwd
  default_fields = uid=nobody gid=nogroup home={place}/mail/%u
}}
plugin {{
  quota = count:user
  quota_vsizes = yes
}}
service lmtp {{
  unix_listener {place}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    port = {port}
  }}
}}
"""


@contextmanager
def dovecot_lmtp(users: Mapping[str, str]) -> Iterator[tuple[Path, int]]:
    """Dovecot's LMTP server for users, each with a quota as ``1M``; empty: none.

    Gives the directory with its socket ``lmtp`` and, below ``mail``, its Maildirs; and its port on 127.0.0.1.
    Needs root.
    """
    with tempfile.TemporaryDirectory(prefix="dovecot-") as name:
        place, port = Path(name), _free_port()
        place.chmod(0o755)
        (place / "mail").mkdir()
        subprocess.run(["chown", "nobody", str(place / "mail")], check=True)
        config, passwd = place / "dovecot.conf", place / "passwd"
        config.write_text(_LMTP.format(place=place, port=port))
        extra = {
            user: f"userdb_quota_rule=*:storage={quota}" if quota else "" for user, quota in users.items()
        }
        passwd.write_text("".join(f"{user}:{{PLAIN}}x::::::{more}\n" for user, more in extra.items()))
        passwd.chmod(0o644)
        server = subprocess.Popen(["dovecot", "-F", "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not (place / "lmtp").exists() and server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            yield place, port
        finally:
            server.terminate()
            server.wait(20)
