"""Dovecot as a mailbox server: LMTP over TCP, with STARTTLS and with implicit TLS, and a mailbox for each user."""

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from tests import ports

from . import mailbox
from .certificates import Certificates
from .mailbox import Mail
from .programs import Daemon, find, unavailable
from .server import DOMAIN, Account, MailServer

_CONFIGURATION = """\
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/log/mail.log
protocols = lmtp
listen = 127.0.0.1
postmaster_address = postmaster@{domain}
ssl = yes
ssl_cert = <{chain}
ssl_key = <{chain}
mail_location = maildir:{directory}/mail/%n
mail_plugins = quota
first_valid_uid = 1
first_valid_gid = 1

# Nobody logs in here, but Dovecot insists on somebody to ask.
passdb {{
  driver = static
  args = nologin
}}
userdb {{
  driver = passwd-file
  args = {directory}/users
}}
plugin {{
  quota = maildir:User quota
}}
service lmtp {{
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    port = {port}
  }}
  inet_listener lmtps {{
    port = {tls_port}
    ssl = yes
  }}
}}
{settings}
"""

USERS = ("recipient", "second", "full")
FULL_USER = f"full@{DOMAIN}"  # the mailbox has no room for any mail
_LMTP = Path("/usr/lib/dovecot/lmtp")
_INSTALL = "install Debian's dovecot-core and dovecot-lmtpd"


@dataclass(frozen=True, kw_only=True, eq=False)
class DovecotLmtp(MailServer):
    """A running LMTP server that knows USERS and nobody else, and asks nobody who he is."""

    connected = re.compile(r"lmtp\((\d+)\): Info: Connect from ")
    disconnected = re.compile(r"lmtp\((\d+)\): Info: Disconnect from ")

    @property
    def socket(self) -> Path:
        """Return the unix socket that the server listens on too."""
        return self.directory / "lmtp"

    @property
    def maildir(self) -> Path:
        """Return where mail to the first of USERS is delivered."""
        return self.directory / "mail" / USERS[0]

    def mails_of(self, user: str) -> list[Mail]:
        """Return what one of USERS has."""
        return mailbox.mails(self.directory / "mail" / user)

    def forget(self) -> None:
        """Begin afresh, in each mailbox."""
        super().forget()
        for user in USERS:
            mailbox.empty(self.directory / "mail" / user)

    def write_configuration(self, settings: dict[str, str]) -> None:
        content = _CONFIGURATION.format(
            directory=self.directory,
            domain=DOMAIN,
            chain=self.certificates.server_chain,
            port=self.port,
            tls_port=self.tls_port,
            settings="\n".join(f"{name} = {value}" for name, value in settings.items()),
        )
        (self.directory / "dovecot.conf").write_text(content)

    def _starts(self) -> int:
        return self._log_as_it_is().count(" starting up for lmtp")

    def _queue_is_empty(self) -> bool:
        return True  # what LMTP has accepted is delivered


def create(directory: Path, *, account: Account, certificates: Certificates) -> DovecotLmtp:
    """Lay out the directories and the configuration; nothing runs yet."""
    program = find("dovecot", install=_INSTALL)
    if not _LMTP.exists():
        unavailable(f"Dovecot's LMTP is not there: {_INSTALL}")
    nobody = pwd.getpwnam("nobody")
    for name in ("log", "mail"):
        (directory / name).mkdir(parents=True)
    os.chown(directory / "mail", nobody.pw_uid, nobody.pw_gid)
    quota = {"full": "userdb_quota_rule=*:bytes=1"}
    lines = [f"{user}@{DOMAIN}::{nobody.pw_uid}:{nobody.pw_gid}::::{quota.get(user, '')}\n" for user in USERS]
    (directory / "users").write_text("".join(lines))
    server = DovecotLmtp(
        directory=directory,
        daemon=Daemon(program, "-F", "-c", str(directory / "dovecot.conf"), output=directory / "log" / "output"),
        port=ports.for_program(),
        tls_port=ports.for_program(),
        account=account,
        certificates=certificates,
    )
    server.write_configuration({})
    return server
