"""Postfix with its own configuration, queue and data directories, beside any system instance."""

import os
import pwd
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests import ports

from .certificates import HOSTNAME, Certificates
from .dovecot import Dovecot
from .programs import Daemon, find
from .server import DOMAIN, MailServer
from .waiting import eventually

# Nothing is chrooted (fifth column), and no process of this list sends mail anywhere else.
_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
smtp-here unix n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

_MAILBOXES = """\
if !/^unknown@/
/./ inbox/
endif
"""

_LONG_AGO = 1_000_000_000
_QUEUES = ("incoming", "active", "deferred")


@dataclass(frozen=True, kw_only=True, eq=False)
class Postfix(MailServer):
    """A running Postfix: submission with STARTTLS on `port`, with implicit TLS on `tls_port`."""

    sasl: Path

    @property
    def socket(self) -> Path:
        """Return the unix socket that it listens on, too."""
        return self.directory / "queue" / "public" / "smtp-here"

    connected = re.compile(r": connect from \S+\]:(\d+)")
    disconnected = re.compile(r": disconnect from \S+\]:(\d+)")

    def write_configuration(self, settings: dict[str, str]) -> None:
        content = {**self._usual_settings(), **settings}
        lines = [f"{name} = {value}\n" for name, value in content.items()]
        path = self.directory / "etc" / "main.cf"
        path.write_text("".join(lines))
        # Postfix waits until a configuration file is two seconds old, lest it read one half written.
        os.utime(path, (_LONG_AGO, _LONG_AGO))

    def _usual_settings(self) -> dict[str, str]:
        nobody = pwd.getpwnam("nobody")
        here = self.directory
        return {
            "compatibility_level": "3.6",
            "queue_directory": f"{here}/queue",
            "data_directory": f"{here}/data",
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(self.log_file.parent),
            "myhostname": HOSTNAME,
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "smtpd_peername_lookup": "no",
            "smtpd_client_port_logging": "yes",
            "mydestination": "",
            "alias_maps": "",
            "local_recipient_maps": "",
            "notify_classes": "",
            "default_transport": "error:5.1.2 the tests send no mail away",
            "virtual_mailbox_domains": DOMAIN,
            "virtual_mailbox_base": f"{here}/mail",
            "virtual_mailbox_maps": f"regexp:{here}/etc/mailboxes",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            # Who is in mynetworks is exempt from the limits on clients, and loopback is by default.
            "mynetworks": "",
            "smtpd_client_event_limit_exceptions": "",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_recipient_restrictions": "permit_sasl_authenticated, permit_tls_all_clientcerts, reject",
            **self._tls_settings(),
            **self._sasl_settings(),
        }

    def _tls_settings(self) -> dict[str, str]:
        return {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": str(self.certificates.server_chain),
            "smtpd_tls_CAfile": str(self.certificates.ca_file),
            "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_loglevel": "1",
        }

    def _sasl_settings(self) -> dict[str, str]:
        return {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": str(self.sasl),
            "smtpd_tls_auth_only": "yes",
        }

    def _starts(self) -> int:
        return self._log_as_it_is().count(": daemon started ")

    def _queue_is_empty(self) -> bool:
        # A file becomes executable when it is complete; others are what a killed reception has left.
        files = (path for name in _QUEUES for path in (self.directory / "queue" / name).rglob("*"))
        return not any(path.is_file() and os.access(path, os.X_OK) for path in files)

    def _flush_log(self) -> None:
        # One process writes the log, from one socket, in order: our line comes after all that was said.
        if not self.daemon.running:
            return
        mark = f"mark {uuid4().hex}"
        postlog = find("postlog", install=_INSTALL)
        subprocess.run([postlog, "-c", self.directory / "etc", mark], check=True, capture_output=True)
        eventually(lambda: mark in self._log_as_it_is(), otherwise=self._log_as_it_is)


_INSTALL = "install Debian's postfix"


def create(directory: Path, *, dovecot: Dovecot, certificates: Certificates) -> Postfix:
    """Lay out the directories and the configuration; nothing runs yet."""
    postfix, postconf = find("postfix", install=_INSTALL), find("postconf", install=_INSTALL)
    for name in ("etc", "log", "data", "queue", "mail"):
        (directory / name).mkdir(parents=True)
    master = Path(_ask(postconf, "-dh", "daemon_directory")) / "master"
    server = Postfix(
        directory=directory,
        daemon=Daemon(str(master), "-c", f"{directory}/etc", "-s", output=directory / "log" / "output"),
        port=ports.for_program(),
        tls_port=ports.for_program(),
        account=dovecot.account,
        certificates=certificates,
        sasl=dovecot.socket,
    )
    _lay_out(server, postfix)
    return server


def _lay_out(server: Postfix, postfix: str) -> None:
    directory = server.directory
    owner = pwd.getpwnam("postfix")
    (directory / "data").chmod(0o700)
    _give(directory / "data", owner)
    _give(directory / "mail", pwd.getpwnam("nobody"))
    master_cf = _MASTER_CF.format(port=server.port, tls_port=server.tls_port)
    (directory / "etc" / "master.cf").write_text(master_cf)
    (directory / "etc" / "mailboxes").write_text(_MAILBOXES)
    server.write_configuration({})
    # Makes the queue's directories with their owners.
    subprocess.run([postfix, "-c", directory / "etc", "check"], check=True)


def _give(path: Path, owner: pwd.struct_passwd) -> None:
    os.chown(path, owner.pw_uid, owner.pw_gid)


def _ask(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
