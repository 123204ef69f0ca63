"""The SMTP conversation, as straight-line generators (RFC 5321).

A dialogue yields what to say (`steps.Say`) and is resumed with the replies; it returns its result or raises.
It does no I/O and reads no clock: `drive` runs it over a socket, a test runs it as a transcript.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import (
    AuthRefused,
    ConnectionLost,
    EhloRefused,
    Failure,
    GreetingRefused,
    NotOffered,
    ProtocolError,
    ReplyTimeout,
    Stage,
    StartTLSRefused,
    refusal,
)
from ..options.fields import Secret
from ..options.options import ServerOptions
from ..replies import PASSWORD_WANTED, Reply
from . import auth
from .credentials import Credentials
from .experience import Experience
from .extensions import Extensions
from .sasl import Mechanism
from .steps import Connect, Dialogue, Patience, Say, SecureChannel, line_of

MAX_CHALLENGES = 4  # of one login; every answer has a deadline of its own, so their number needs a bound


def command(
    line: str,
    *,
    stage: Stage,
    patience: Patience = Patience.COMMAND,
    masked: str | None = None,
) -> Say:
    """Return the step that says one command."""
    return Say(pieces=(line_of(line),), stage=stage, patience=patience, masked=masked)


def ask(step: Say) -> Dialogue[Reply]:
    """Say one thing and return the one reply to it."""
    heard = yield step
    return heard.replies[0]


@dataclass(frozen=True, kw_only=True)
class Greeter:
    """What opening a session needs to know beyond the options."""

    server: ServerOptions
    local_hostname: Callable[[], str]
    credentials: Credentials | None = None  # of the moment, in place of those in the options
    refused: AuthRefused | None = None  # how the server refused the token before this one, a moment ago
    experience: Experience = field(default_factory=Experience)


def open_session(greeter: Greeter) -> Dialogue[Extensions]:
    """Connect, greet, secure and log in; return what the server offers to the finished session."""
    server = greeter.server
    yield Connect(target=server.target)
    if server.use_ssl:
        yield _secure(server)
    yield from _hear_greeting(server)
    name = greeter.local_hostname()
    extensions = yield from say_hello(name, lmtp=server.lmtp)
    encrypted = server.use_ssl
    if not encrypted and (server.use_tls or (server.opportunistic_tls and extensions.starttls)):
        encrypted = yield from _start_tls(server, extensions)
    if encrypted and not server.use_ssl:
        # RFC 3207 §4.2: what was said before TLS is forgotten.
        extensions = yield from say_hello(name, lmtp=server.lmtp)
    yield from log_in(greeter, extensions, encrypted=encrypted)
    return extensions


def _secure(server: ServerOptions) -> SecureChannel:
    # A name in DNS may end with a dot; one in a certificate does not.
    return SecureChannel(server_hostname=server.tls_options.server_hostname or server.host.rstrip("."))


def _hear_greeting(server: ServerOptions) -> Dialogue[None]:
    try:
        greeting = yield from ask(Say(pieces=(), stage=Stage.GREETING, patience=Patience.GREETING))
    except (ProtocolError, ReplyTimeout) as error:
        if not server.use_ssl:
            kind = "a mail server" if server.lmtp else "an SMTP server"
            hint = f"{server.place} does not greet like {kind}; does it expect TLS (use_ssl)?"
            error.args = (f"{error}. {hint}",)
        raise
    if not greeting.is_positive:
        raise refusal(GreetingRefused, greeting, stage=Stage.GREETING)


def say_hello(name: str, *, lmtp: bool = False) -> Dialogue[Extensions]:
    """Say EHLO, and HELO to a server that does not know EHLO (RFC 5321 §3.2); in LMTP, LHLO and nothing else."""
    verb = "LHLO" if lmtp else "EHLO"
    reply = yield from ask(command(f"{verb} {name}", stage=Stage.EHLO, patience=Patience.GREETING))
    if reply.is_positive:
        return Extensions.from_reply(reply)
    if reply.is_permanent and not lmtp:
        reply = yield from ask(command(f"HELO {name}", stage=Stage.EHLO, patience=Patience.GREETING))
        if reply.is_positive:
            return Extensions()
    raise refusal(EhloRefused, reply, stage=Stage.EHLO)


def _start_tls(server: ServerOptions, extensions: Extensions) -> Dialogue[bool]:
    """Secure the session; return False where that was optional, and refused."""
    if not extensions.starttls:
        raise NotOffered(
            "STARTTLS extension not supported by server. "  # smtplib's words
            f"{server.host} does not offer STARTTLS, and use_tls requires it: nothing was sent in clear. "
            "If the port expects TLS from the first octet, set use_ssl instead",
            stage=Stage.STARTTLS,
        )
    reply = yield from ask(command("STARTTLS", stage=Stage.STARTTLS, patience=Patience.GREETING))
    if not reply.is_positive:
        if server.use_tls or reply.closes_connection:
            raise refusal(StartTLSRefused, reply, stage=Stage.STARTTLS)
        return False
    yield _secure(server)
    return True


def log_in(greeter: Greeter, extensions: Extensions, *, encrypted: bool) -> Dialogue[None]:
    """Log in by the best mechanism, if there is anybody to log in as; go on to the next where one cannot be used.

    Refused logins count towards a lock, so there are two at most for one message: a refused proof is followed by the
    password itself where the connection is safe, and that by nothing. If the password is right, the next connections of
    the pool begin with it. Where the server hangs up after a refusal, the refusal is what is raised.
    """
    who = greeter.credentials or _fixed(greeter.server)
    logins = _Logins(greeter.refused)
    for kind in auth.plan(greeter.server, extensions.auth, encrypted=encrypted, experience=greeter.experience):
        if not logins.may_try(kind):
            continue
        try:
            mechanism = kind(username=who.username, secret=who.secret)
        except NotOffered as error:
            logins.failure = logins.failure or error
            continue
        try:
            reply = yield from _authenticate(mechanism)
        except ConnectionLost as lost:
            logins.ended(greeter.experience)
            raise logins.lost(lost) from None
        # 503: this session is logged in already, by its certificate or address, say; smtplib takes it so too.
        if reply.is_positive or (reply.code == 503 and not logins.answered):
            mechanism.conclude(reply.message)
            logins.succeeded(kind, greeter.experience)
            return
        logins.refuse(kind, reply, mechanism.explanation, encrypted=encrypted)
    logins.ended(greeter.experience)
    if logins.failure is not None:
        raise logins.failure


class _Logins:
    """What the logins of one session have come to."""

    def __init__(self, before: AuthRefused | None) -> None:
        self.failure: Failure | None = before
        self.answered = 0
        self._refused = 0 if before is None else 1
        self._may_follow = auth.Next.ANY
        self._proof_failed = self._password_refused = False

    def may_try(self, kind: type[Mechanism]) -> bool:
        """Return whether a mechanism may follow what has been tried."""
        if self._may_follow is auth.Next.NOTHING or self._refused >= auth.MOST_REFUSED:
            return False
        return self._may_follow is auth.Next.ANY or kind.reveals_secret

    def refuse(self, kind: type[Mechanism], reply: Reply, explanation: str, *, encrypted: bool) -> None:
        """Take note of a login that was not accepted."""
        self.answered += 1
        self._may_follow = auth.what_follows(kind, reply, encrypted=encrypted)
        if reply.is_permanent and reply.code != 504:  # 504: nobody was refused, the server does not know the mechanism
            self._refused += 1
            self._password_refused = self._password_refused or kind.reveals_secret
        if not kind.reveals_secret:
            self._proof_failed = self._proof_failed or reply.code == 454 or reply.is_permanent
        self.failure = _login_refused(reply, explanation)
        self.failure.logins = self._refused

    def lost(self, lost: ConnectionLost) -> Failure:
        """Return what is to be raised where the connection ended without an answer."""
        lost.logins = self._refused + 1
        if not isinstance(self.failure, AuthRefused) or lost.is_final:
            return lost
        self.failure.logins = lost.logins
        return self.failure

    def succeeded(self, kind: type[Mechanism], experience: Experience) -> None:
        """Remember that the password did what a proof could not."""
        if kind.reveals_secret and (experience.password_next or self._proof_failed):
            experience.refuses_proofs = True
        experience.password_next = False

    def ended(self, experience: Experience) -> None:
        """Let the next login begin with the password, where a proof has failed and nobody has refused the password."""
        if self._password_refused:
            experience.password_next = False
        elif self._proof_failed:
            experience.password_next = True


def _login_refused(reply: Reply, explanation: str) -> AuthRefused:
    """Return the error, with what the server said to a token in its text: which scope it wants, say."""
    error = refusal(AuthRefused, reply, stage=Stage.AUTH)
    # The account must log in by its password once, and that is not possible here: it will not be later either.
    error.is_final = reply.code == 432 and reply.enhanced == PASSWORD_WANTED
    if explanation:
        shown = Reply(code=reply.code, lines=(explanation.encode(),)).text
        error.smtp_error = reply.message + f" (the server's explanation: {shown})".encode()
        error.args = (reply.code, error.smtp_error)
        error.explanation = explanation
    return error


def _fixed(server: ServerOptions) -> Credentials:
    if server.token_source is not None:
        raise AssertionError("where tokens are made there is no falling back to a password")
    # A client certificate needs neither.
    return Credentials(username=server.username or "", secret=server.oauth2_token or server.password or Secret(""))


def _authenticate(mechanism: Mechanism) -> Dialogue[Reply]:
    line = f"AUTH {mechanism.name}"
    if mechanism.initial() is None:
        reply = yield from ask(command(line, stage=Stage.AUTH))
    else:
        reply = yield from ask(
            command(f"{line} {_base64(mechanism.initial() or b'')}", stage=Stage.AUTH, masked=f"{line} ***")
        )
    challenges = 0
    while reply.code == 334:
        challenges += 1
        if challenges > MAX_CHALLENGES:
            text = f"the server asked more than {MAX_CHALLENGES} times for an answer of {mechanism.name}"
            raise ProtocolError(text, stage=Stage.AUTH)
        challenge = _challenge(reply) if mechanism.reads_challenge else b""
        reply = yield from ask(
            command(base64.b64encode(mechanism.respond(challenge)).decode(), stage=Stage.AUTH, masked="***")
            if challenge is not None
            else command("*", stage=Stage.AUTH)
        )
    return reply


def _base64(octets: bytes) -> str:
    # RFC 4954 §4: an empty initial response is written "=".
    return base64.b64encode(octets).decode() or "="


def _challenge(reply: Reply) -> bytes | None:
    """Return the decoded challenge, None for one that is not base64 (the exchange is then cancelled)."""
    try:
        return base64.b64decode(reply.message, validate=True)
    except binascii.Error:
        return None


def noop() -> Dialogue[Reply]:
    """Say NOOP and return the reply."""
    return (yield from ask(command("NOOP", stage=Stage.NOOP)))


def quit_politely() -> Dialogue[None]:
    """Say QUIT; whatever the answer, the session is over."""
    try:
        yield command("QUIT", stage=Stage.QUIT)
    except ConnectionLost:
        return
