"""The SMTP conversation, as straight-line generators (RFC 5321).

A dialogue yields a step (`steps.Say`) and is resumed with the replies; it returns its result or raises. It does no I/O
and reads no clock: `drive` runs it over a socket, and a test runs it against a transcript.
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
from .experience import Experience
from .extensions import Extensions
from .masking import forms_of, in_order, masked_in
from .sasl import Credentials, Mechanism
from .steps import Connect, Dialogue, Patience, Say, SecureChannel, line_of

MAX_CHALLENGES = 4  # per login; each answer has its own timeout, so their number needs a limit


def command(
    line: str,
    *,
    stage: Stage,
    patience: Patience = Patience.COMMAND,
    masked: str | None = None,
    hidden: tuple[bytes, ...] = (),
) -> Say:
    """Return the step for one command."""
    return Say(pieces=(line_of(line),), stage=stage, patience=patience, masked=masked, hidden=hidden)


def ask(step: Say) -> Dialogue[Reply]:
    """Send one command and return its reply."""
    heard = yield step
    return heard.replies[0]


@dataclass(frozen=True, kw_only=True)
class Greeter:
    """What is needed to open a session, in addition to the options."""

    server: ServerOptions
    local_hostname: Callable[[], str]
    credentials: Credentials | None = None  # the current ones, instead of those in the options
    refused: AuthRefused | None = None  # the refusal of the token before this one
    experience: Experience = field(default_factory=Experience)


def open_session(greeter: Greeter) -> Dialogue[Extensions]:
    """Connect, greet, start TLS and log in; return the extensions of the ready session."""
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
        # RFC 3207 §4.2: forget what was said before TLS.
        extensions = yield from say_hello(name, lmtp=server.lmtp)
    yield from log_in(greeter, extensions, encrypted=encrypted)
    return extensions


def _secure(server: ServerOptions) -> SecureChannel:
    # A DNS name may end with a dot; a name in a certificate does not.
    return SecureChannel(server_hostname=server.tls_options.server_hostname or server.host.rstrip("."))


def _hear_greeting(server: ServerOptions) -> Dialogue[None]:
    try:
        greeting = yield from ask(Say(pieces=(), stage=Stage.GREETING, patience=Patience.GREETING))
    except (ProtocolError, ReplyTimeout) as error:
        if not server.use_ssl:
            kind = "a mail server" if server.lmtp else "an SMTP server"
            hint = f"{server.place} does not greet like {kind}; if it expects TLS, set use_ssl"
            error.args = (f"{error}. {hint}",)
        raise
    if not greeting.is_positive:
        raise refusal(GreetingRefused, greeting, stage=Stage.GREETING)


def say_hello(name: str, *, lmtp: bool = False) -> Dialogue[Extensions]:
    """Send EHLO, or HELO to a server that does not know EHLO (RFC 5321 §3.2); in LMTP, only LHLO."""
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
    """Start TLS; return False if it was optional and the server refused."""
    if not extensions.starttls:
        raise NotOffered(
            "STARTTLS extension not supported by server. "  # smtplib's words
            f"{server.host} does not offer STARTTLS, and use_tls requires it: nothing was sent unencrypted. "
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
    """Log in with the best mechanism, if there are credentials; try the next one if a mechanism cannot be used.

    Refused logins count towards locking the account, so there are at most two per message: after a refused proof, the
    password itself is tried if the connection is safe, and then nothing else. If the password is right, later
    connections of the pool start with it. If the server closes the connection after a refusal, the refusal is raised.
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
        # 503: already logged in, for example by certificate or address; smtplib reads it that way too.
        if reply.is_positive or (reply.code == 503 and not logins.answered):
            mechanism.conclude(reply.message)
            logins.succeeded(kind, greeter.experience)
            return
        explanation = _without_secrets(mechanism) if mechanism.explanation else ""
        logins.refuse(kind, reply, explanation, encrypted=encrypted)
    logins.ended(greeter.experience)
    if logins.failure is not None:
        raise logins.failure


class _Logins:
    """The state of the logins of one session."""

    def __init__(self, before: AuthRefused | None) -> None:
        self.failure: Failure | None = before
        self.answered = 0
        self._refused = 0 if before is None else 1
        self._may_follow = auth.Next.ANY
        self._proof_failed = self._password_refused = False

    def may_try(self, kind: type[Mechanism]) -> bool:
        """Return whether a mechanism may follow those that were tried."""
        if self._may_follow is auth.Next.NOTHING or self._refused >= auth.MOST_REFUSED:
            return False
        return self._may_follow is auth.Next.ANY or kind.reveals_secret

    def refuse(self, kind: type[Mechanism], reply: Reply, explanation: str, *, encrypted: bool) -> None:
        """Record a login that was not accepted."""
        self.answered += 1
        self._may_follow = auth.what_follows(kind, reply, encrypted=encrypted)
        if reply.is_permanent and reply.code != 504:  # 504: the server does not know the mechanism
            self._refused += 1
            self._password_refused = self._password_refused or kind.reveals_secret
        if not kind.reveals_secret:
            self._proof_failed = self._proof_failed or reply.code == 454 or reply.is_permanent
        self.failure = _login_refused(reply, explanation)
        self.failure.logins = self._refused

    def lost(self, lost: ConnectionLost) -> Failure:
        """Return the error to raise if the connection ended without an answer."""
        lost.logins = self._refused + 1
        if not isinstance(self.failure, AuthRefused) or lost.is_final:
            return lost
        self.failure.logins = lost.logins
        return self.failure

    def succeeded(self, kind: type[Mechanism], experience: Experience) -> None:
        """Record that the password was accepted after a proof was not."""
        if kind.reveals_secret and (experience.password_next or self._proof_failed):
            experience.refuses_proofs = True
        experience.password_next = False

    def ended(self, experience: Experience) -> None:
        """Let the next login start with the password, if a proof failed and the password was not refused."""
        if self._password_refused:
            experience.password_next = False
        elif self._proof_failed:
            experience.password_next = True


def _login_refused(reply: Reply, explanation: str) -> AuthRefused:
    """Return the error, with the server's explanation about a token, for example the scope that it requires."""
    error = refusal(AuthRefused, reply, stage=Stage.AUTH)
    # The account must log in with its password once, which is not possible here, so a retry cannot help.
    error.is_final = reply.code == 432 and reply.enhanced == PASSWORD_WANTED
    if explanation:
        shown = Reply(code=reply.code, lines=(explanation.encode(),)).text
        error.smtp_error = reply.message + f" (the server's explanation: {shown})".encode()
        error.args = (reply.code, error.smtp_error)
        error.explanation = explanation
    return error


def _fixed(server: ServerOptions) -> Credentials:
    if server.token_source is not None:
        raise AssertionError("with a token source, a password must not be used instead")
    # A client certificate needs no secret.
    return Credentials(username=server.username or "", secret=server.oauth2_token or server.password or Secret(""))


def _authenticate(mechanism: Mechanism) -> Dialogue[Reply]:
    line = f"AUTH {mechanism.name}"
    if mechanism.initial() is None:
        reply = yield from ask(command(line, stage=Stage.AUTH))
    else:
        reply = yield from ask(_in_secret(mechanism, mechanism.initial() or b"", before=f"{line} "))
    challenges = 0
    while reply.code == 334:
        challenges += 1
        if challenges > MAX_CHALLENGES:
            text = f"the server sent more than {MAX_CHALLENGES} challenges for {mechanism.name}"
            raise ProtocolError(text, stage=Stage.AUTH)
        challenge = _challenge(reply) if mechanism.reads_challenge else b""
        reply = yield from ask(
            _in_secret(mechanism, mechanism.respond(challenge))
            if challenge is not None
            else command("*", stage=Stage.AUTH)
        )
    return reply


def _in_secret(mechanism: Mechanism, said: bytes, before: str = "") -> Say:
    """Return the step that says something of a login; in a frame that is gone when it is said."""
    encoded = base64.b64encode(said).decode()
    if before and not said:
        encoded = "="  # RFC 4954 §4: an empty initial response
    hidden = _hidden(mechanism, said)
    return command(f"{before}{encoded}", stage=Stage.AUTH, masked=f"{before}***", hidden=hidden)


def _without_secrets(mechanism: Mechanism) -> str:
    hidden = _hidden(mechanism, mechanism.initial() or b"")
    return masked_in(mechanism.explanation.encode(), in_order(hidden)).decode()


def _hidden(mechanism: Mechanism, said: bytes) -> tuple[bytes, ...]:
    """Return what no text may show of what is said in a login: all but the name."""
    secret = forms_of(mechanism.secret.reveal().encode())
    return secret if said == mechanism.username.encode() else (*secret, *forms_of(said))


def _challenge(reply: Reply) -> bytes | None:
    """Return the decoded challenge, or None if it is not base64 (then the exchange is cancelled)."""
    try:
        return base64.b64decode(reply.message, validate=True)
    except binascii.Error:
        return None


def noop() -> Dialogue[Reply]:
    """Send NOOP and return the reply."""
    return (yield from ask(command("NOOP", stage=Stage.NOOP)))


def quit_politely() -> Dialogue[None]:
    """Send QUIT; after any reply, the session is over."""
    try:
        yield command("QUIT", stage=Stage.QUIT)
    except ConnectionLost:
        return
