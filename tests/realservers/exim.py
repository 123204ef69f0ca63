"""Exim with its own configuration and spool: a second opinion, by another TLS library (GnuTLS)."""

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from tests import ports

from .certificates import HOSTNAME, Certificates
from .programs import Daemon, find, unavailable
from .server import DOMAIN, Account, MailServer

_INSTALL = (
    "unpack Debian's exim4-daemon-light (dpkg-deb -x: it cannot be installed beside postfix), "
    "set EXIM to its sbin/exim4, and add the system user Debian-exim, as .ci/run does"
)

_SECTIONS = """
begin acl
recipients:
  deny    message = authentication required
          !authenticated = *
  deny    message = relay not permitted
          !domains = OUR_DOMAIN
  deny    message = no such user
          local_parts = unknown
  accept

begin routers
everybody:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = MAILDIR
  maildir_format
  envelope_to_add
  return_path_add

begin authenticators
PLAIN:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{USERNAME}}{eq{$auth3}{PASSWORD}}}}
  server_set_id = $auth2
LOGIN:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_condition = ${if and{{eq{$auth1}{USERNAME}}{eq{$auth2}{PASSWORD}}}}
  server_set_id = $auth1
CRAM_MD5:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${if eq{$auth1}{USERNAME}{PASSWORD}fail}
  server_set_id = $auth1
EXTERNAL:
  driver = external
  public_name = EXTERNAL
  server_advertise_condition = $tls_in_certificate_verified
  server_condition = ${if eq{${certextract{subj_altname,mail}{$tls_in_peercert}}}{USERNAME}}
  server_set_id = USERNAME
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exim(MailServer):
    """A running Exim: submission with STARTTLS on `port`, with implicit TLS on `tls_port`."""

    program: str

    connected = re.compile(r" SMTP connection from \[\S+\]:(\d+) \(TCP/IP connection count = ")
    disconnected = re.compile(
        r" SMTP (?:command timeout on (?:TLS )?)?connection from (?:\S+ )?\[\S+\]:(\d+)(?! \(TCP/IP connection count)\b"
    )

    @property
    def log_file(self) -> Path:
        """Return the file that the server logs to."""
        return self.directory / "log" / "mainlog"

    def write_configuration(self, settings: dict[str, str]) -> None:
        macros = {
            "OUR_DOMAIN": DOMAIN,
            "MAILDIR": str(self.maildir),
            "USERNAME": self.account.username,
            "PASSWORD": self.account.password,
        }
        content = {**macros, **self._usual_settings(), **settings}
        lines = [f"{name} = {value}\n" for name, value in content.items()]
        (self.directory / "exim.conf").write_text("".join(lines) + _SECTIONS)

    def _usual_settings(self) -> dict[str, str]:
        here = self.directory
        return {
            "primary_hostname": HOSTNAME,
            "exim_path": self.program,
            "spool_directory": f"{here}/spool",
            "log_file_path": f"{here}/log/%slog",
            "pid_file_path": f"{here}/spool/pid",
            "log_selector": "+smtp_connection +incoming_port",
            "keep_environment": "",
            "local_interfaces": self.host,
            "daemon_smtp_ports": f"{self.port} : {self.tls_port}",
            # Without a set-uid binary that trusts our file, root is given up before delivery.
            "deliver_drop_privilege": "true",
            # By default, what follows the tenth message of a connection waits for the next queue run.
            "smtp_accept_queue_per_connection": "0",
            "acl_smtp_rcpt": "recipients",
            "chunking_advertise_hosts": "*",
            **self._tls_settings(),
        }

    def _tls_settings(self) -> dict[str, str]:
        return {
            "tls_on_connect_ports": str(self.tls_port),
            "tls_advertise_hosts": "*",
            "tls_certificate": str(self.certificates.server_chain),
            "tls_verify_certificates": str(self.certificates.ca_file),
            "tls_try_verify_hosts": "*",
            "auth_advertise_hosts": "${if eq{$tls_in_cipher}{}{}{*}}",
        }

    def _starts(self) -> int:
        return self._log_as_it_is().count(" daemon started:")

    def _queue_is_empty(self) -> bool:
        # The header file completes a message; data alone is what a killed reception has left.
        return not any((self.directory / "spool" / "input").glob("*-H"))


def create(directory: Path, *, account: Account, certificates: Certificates) -> Exim:
    """Lay out the directories and the configuration; nothing runs yet."""
    program = find("exim4", install=_INSTALL, variable="EXIM")
    try:
        owner = pwd.getpwnam("Debian-exim")
    except KeyError:
        unavailable(f"the user Debian-exim is not there: {_INSTALL}")
    for name in ("log", "spool", "mail"):
        (directory / name).mkdir(parents=True)
        os.chown(directory / name, owner.pw_uid, owner.pw_gid)
    server = Exim(
        program=program,
        directory=directory,
        daemon=Daemon(program, "-C", f"{directory}/exim.conf", "-bdf", "-q2s", output=directory / "log" / "output"),
        port=ports.for_program(),
        tls_port=ports.for_program(),
        account=account,
        certificates=certificates,
    )
    server.write_configuration({})
    return server
