"""Dovecot as nothing but a SASL authority: a unix socket that Postfix and Exim ask."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path

from .programs import Daemon, find
from .server import Account
from .waiting import eventually

_CONFIGURATION = """\
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/dovecot.log
protocols =
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 xoauth2 oauthbearer
auth_failure_delay = 0
auth_username_chars =
auth_verbose = yes

passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = scheme=PLAIN {directory}/users
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {directory}/oauth2.conf
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
# Without this each wrong password makes all that log in afterwards wait, longer each time.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {directory}/sasl {{
    mode = 0666
  }}
}}
"""

# Tokens are checked by their signature alone: no second server that vouches for them.
_OAUTH2 = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={directory}/keys/
username_attribute = sub
"""
# One whose name and password take some care, and one of whose password only a hash is kept: no proof is good then.
FOREIGN = Account(username="a,b=c@example.com", password="Grüße, = €")
HASHED = Account(username="hashed@example.com", password="kept as a hash")
_YEAR_2100 = 4102444800
_TOKEN_KEY = b"a key that signs tokens of the tests"


@dataclass(frozen=True, kw_only=True, eq=False)
class Dovecot:
    """A running SASL authority with one account of the tests, and two that are special."""

    directory: Path
    daemon: Daemon
    account: Account

    @property
    def socket(self) -> Path:
        """Return the unix socket that mail servers ask."""
        return self.directory / "sasl"

    def start(self) -> None:
        """Start Dovecot, and wait for its socket."""
        self.daemon.start()
        eventually(self.socket.is_socket, otherwise=self._log)

    def stop(self) -> None:
        """End Dovecot."""
        self.daemon.stop()

    def _log(self) -> str:
        return "\n".join(path.read_text() for path in self.directory.glob("*.log"))


def create(directory: Path, *, account: Account) -> Dovecot:
    """Write the configuration for one account beside the special ones; nothing runs yet."""
    program = find("dovecot", install="install Debian's dovecot-core")
    directory.mkdir()
    (directory / "dovecot.conf").write_text(_CONFIGURATION.format(directory=directory))
    (directory / "oauth2.conf").write_text(_OAUTH2.format(directory=directory))
    passwords = {
        account.username: f"{{PLAIN}}{account.password}",
        FOREIGN.username: f"{{PLAIN}}{FOREIGN.password}",
        HASHED.username: f"{{SSHA256}}{_salted_hash(HASHED.password)}",
    }
    lines = [f"{username}:{password}\n" for username, password in passwords.items()]
    (directory / "users").write_text("".join(lines), encoding="utf-8")
    key = directory / "keys" / "default" / "HS256" / "default"
    key.parent.mkdir(parents=True)
    key.write_bytes(base64.b64encode(_TOKEN_KEY))
    daemon = Daemon(program, "-F", "-c", str(directory / "dovecot.conf"), output=directory / "output.log")
    return Dovecot(directory=directory, daemon=daemon, account=account)


def _salted_hash(password: str) -> str:
    salt = b"salt"
    return base64.b64encode(hashlib.sha256(password.encode() + salt).digest() + salt).decode()


def token_for(username: str) -> str:
    """Return an access token (JWT, RFC 7519) good for the rest of the century."""
    signed = ".".join([_segment({"alg": "HS256", "typ": "JWT"}), _segment({"sub": username, "exp": _YEAR_2100})])
    signature = hmac.digest(_TOKEN_KEY, signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64url(signature)}"


def _segment(content: dict[str, object]) -> str:
    return _base64url(json.dumps(content).encode())


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
