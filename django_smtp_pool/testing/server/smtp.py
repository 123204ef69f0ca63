"""The conversation of RFC 5321 or RFC 2033: the proper replies of the server."""

import re

from . import content, login
from .record import Accepted

HOSTNAME = "fault.test"
PATH = re.compile(r'(?i)(?:FROM|TO):<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>(?: (.*))?')
# Each parameter of MAIL, and the extension that must be offered for it.
PARAMETERS = {
    "SIZE": "SIZE",
    "BODY": "8BITMIME",
    "SMTPUTF8": "SMTPUTF8",
    "AUTH": "AUTH",
    "RET": "DSN",
    "ENVID": "DSN",
    "REQUIRETLS": "REQUIRETLS",
}
RCPT_PARAMETERS = {"NOTIFY": "DSN", "ORCPT": "DSN"}
# RFC 2920 §3.1: these must be the last command of a group; STARTTLS and AUTH by their own RFCs.
LAST_OF_A_GROUP = frozenset({"EHLO", "HELO", "LHLO", "DATA", "STARTTLS", "AUTH", "QUIT", "NOOP"})


def multiline(code, lines):
    """Return a multiline reply."""
    return "\r\n".join([*(f"{code}-{line}" for line in lines[:-1]), f"{code} {lines[-1]}"])


def has_effect(code):
    """Return whether a command with this code has taken effect."""
    return code // 100 in (2, 3)


class Conversation:
    """The state of one session, with a method for each verb."""

    def __init__(self, session, *, tls):
        self.session = session
        self.server = session.server
        self.tls = tls
        self.user = None
        self.greeted = False
        self.mails = 0
        self._forget()

    def handle(self, line):
        """Carry out one command."""
        verb, _, argument = line.partition(" ")
        known = VERBS - ({"EHLO", "HELO"} if self.server.lmtp else {"LHLO"})
        method = getattr(self, f"_{verb.lower()}", None) if verb.upper() in known else None
        if "\r" in line or "\n" in line:
            self.session.answer("unknown", proper="500 5.5.2 bare CR or LF")
        elif self._out_of_turn(verb.upper()):
            self.session.say("554 5.5.0 SMTP synchronization error")
            self.session.finish(polite=True)
        elif method is None:
            self.session.answer("unknown", proper="500 5.5.2 Error: command not recognized")
        else:
            method(argument)

    def _out_of_turn(self, verb):
        # Unread input was sent without waiting for the reply to `verb`; BDAT is followed by its octets.
        ahead = verb in LAST_OF_A_GROUP or (not self.server.pipelining and verb != "BDAT")
        return ahead and bool(self.session.buffer) and not self.server.patient

    def _forget(self):
        self.sender = None
        self.parameters = ()
        self.recipients = []
        self.rcpt_parameters = {}
        self.refused = 0
        self.chunks = None  # BDAT's octets so far
        self.spoiled = False  # a chunk was refused, so RFC 3030 §2 requires RSET

    def _ehlo(self, argument):
        code = self.session.answer("ehlo", proper=multiline("250", [HOSTNAME, *self.server.offers(self)]))
        self._greet(code)

    _lhlo = _ehlo

    def _helo(self, argument):
        self._greet(self.session.answer("helo", proper=f"250 {HOSTNAME}"))

    def _greet(self, code):
        if has_effect(code):
            self.greeted = True
            self._forget()

    def _starttls(self, argument):
        possible = self.server.starttls is not None and not self.tls
        proper = "220 2.0.0 Ready to start TLS" if possible else "503 5.5.1 STARTTLS not offered"
        if has_effect(self.session.answer("starttls", proper=proper)) and possible:
            self.session.secure(self.server.starttls)
            self.tls, self.greeted = True, False
            self._forget()  # RFC 3207 §4.2: forget everything known before

    def _auth(self, argument):
        name, _, initial = argument.partition(" ")
        mechanism = login.MECHANISMS.get(name.upper())
        if self.user or self.sender is not None:
            self.session.answer("auth", proper="503 5.5.1 Error: already authenticated, or in a transaction")
        elif mechanism is None or name.upper() not in self.server.mechanisms(self):
            self.session.answer("auth", proper="504 5.5.4 mechanism not supported")
        else:
            self._authenticate(mechanism, initial)

    def _authenticate(self, mechanism, initial):
        try:
            user = mechanism(self._ask, login.decode(initial) if initial else None, self.server.users)
        except login.AbandonedError as reason:
            self.session.answer("auth", proper=str(reason))
            return
        except (LookupError, ValueError):
            self.session.answer("auth", proper="501 5.5.2 Malformed authentication exchange")
            return
        proper = "235 2.7.0 Authentication successful" if user else "535 5.7.8 Error: authentication failed"
        if has_effect(self.session.answer("auth", proper=proper)):
            self.user = user

    def _ask(self, challenge):
        self.session.answer("challenge", proper=f"334 {login.encode(challenge)}")
        answer = self.session.read_line("answer")
        self.session.record.note(f"C{self.session.number}> {answer}")
        return login.decode(answer)

    def _mail(self, argument):
        match = PATH.fullmatch(argument)
        parameters = tuple((match[2] or "").split()) if match else ()
        proper = self._mail_reply(match, parameters)
        points = ("next", "mail") if self.session.delivered else ("mail",)
        if has_effect(self.session.answer(*points, proper=proper)) and match:
            self._forget()
            self.mails += 1
            self.sender, self.parameters = match[1], parameters
        elif proper.startswith("421"):
            self.session.finish(polite=True)

    def _mail_reply(self, match, parameters):
        server = self.server
        if server.max_messages is not None and self.mails >= server.max_messages:
            return "421 4.7.0 too many messages in this connection"
        if not self.greeted or self.sender is not None:
            return "503 5.5.1 Error: send EHLO first, and one MAIL at a time"
        if server.require_tls and not self.tls:
            return "530 5.7.0 Must issue a STARTTLS command first"
        if server.require_auth and not self.user:
            return "530 5.7.0 Authentication required"
        if match is None or not match[0].upper().startswith("FROM"):
            return "501 5.5.4 Syntax: MAIL FROM:<address>"
        return self._parameters_reply(match[1], parameters) or "250 2.1.0 Ok"

    def _parameters_reply(self, address, parameters):
        for name, _, value in (parameter.upper().partition("=") for parameter in parameters):
            if PARAMETERS.get(name) not in self._offered:
                return f"555 5.5.4 Unsupported option: {name}"
            if name == "SIZE" and int(value) > self.server.size_limit:
                return "552 5.3.4 Message size exceeds fixed limit"
        if "REQUIRETLS" in parameters and not self.tls:
            return "530 5.7.10 REQUIRETLS needs TLS"
        plain = address.isascii() or "SMTPUTF8" in (parameter.upper() for parameter in parameters)
        return None if plain else "553 5.6.7 SMTPUTF8 required"

    @property
    def _offered(self):
        return {line.split()[0] for line in self.server.offers(self)}

    def _rcpt(self, argument):
        match = PATH.fullmatch(argument)
        parameters = tuple((match[2] or "").split()) if match else ()
        strange = [word for word in parameters if RCPT_PARAMETERS.get(word.partition("=")[0]) not in self._offered]
        if self.sender is None:
            proper = "503 5.5.1 Error: need MAIL command"
        elif match is None or not match[0].upper().startswith("TO") or not match[1]:
            proper = "501 5.5.4 Syntax: RCPT TO:<address>"
        elif strange or not (argument.isascii() or "SMTPUTF8" in self.parameters):
            proper = f"555 5.5.4 Unsupported option: {argument}"
        else:
            proper = self.server.refuse_recipients.get(match[1], "250 2.1.5 Ok")
        if has_effect(self.session.answer("rcpt", proper=proper)) and match and self.sender is not None:
            self.recipients.append(match[1])
            self.rcpt_parameters[match[1]] = parameters
        else:
            self.refused += 1

    def _no_content_because(self):
        if self.sender is None or self.spoiled:
            return "503 5.5.1 Error: need MAIL command, or RSET"
        if not self.recipients:
            return "554 5.5.1 Error: no valid recipients" if self.refused else "503 5.5.1 Error: need RCPT command"
        return None

    def _data(self, argument):
        refusal = self._no_content_because()
        if self.server.lenient_data and self.refused and refusal:
            refusal = None
        if self.chunks is not None:
            refusal = "503 5.5.1 Error: in the middle of BDAT"
        proper = refusal or "354 End data with <CR><LF>.<CR><LF>"
        if self.session.answer("data", proper=proper) == 354:
            self._end(content.until_dot(self.session), "end")
            self._forget()

    def _bdat(self, argument):
        size, _, last = argument.upper().partition(" ")
        if not self.server.chunking or not size.isdigit() or last not in ("", "LAST"):
            self.session.answer("unknown", proper="502 5.5.1 Error: command not implemented")
            return
        if self.server.refuse_bdat is not None:
            self.session.say(self.server.refuse_bdat)
            content.exactly(self.session, min(self.server.swallows, int(size)))
            return
        chunk = content.exactly(self.session, int(size))
        if chunk is None or not self._take(chunk, last=bool(last)):
            self.spoiled = True
        elif last:
            self._forget()

    def _take(self, chunk, *, last):
        if refusal := self._no_content_because():
            return has_effect(self.session.answer("bdat", proper=refusal))
        self.chunks = (self.chunks or b"") + chunk
        if last:
            return has_effect(self._end(self.chunks, "bdat", "end"))
        return has_effect(self.session.answer("bdat", proper=f"250 2.0.0 {len(chunk)} octets received"))

    def _end(self, octets, *points):
        if octets is None:  # a fault answered early, in the middle of the content
            return 0
        if self.server.lmtp:
            return self._end_for_each(octets, *points)
        message = self._message(octets, self.recipients)
        refusal = self._refusal(octets)
        decide = None if refusal else lambda: self._accept(message)
        code = self.session.answer(
            *points, proper=refusal or f"250 2.0.0 Ok: queued as {message.queue_id}", decide=decide
        )
        if has_effect(code):
            self.session.disturb("after", "421 4.4.2 fault.test Error: timeout exceeded")
        return code

    def _end_for_each(self, octets, *points):
        codes = [self._deliver(octets, address, *points) for address in self.recipients]
        if any(map(has_effect, codes)):
            self.session.disturb("after", "421 4.4.2 fault.test Error: timeout exceeded")
        return max(codes, default=0)

    def _deliver(self, octets, address, *points):
        message = self._message(octets, [address])
        refusal = self.server.refuse_content.get(address) or self._refusal(octets)
        decide = None if refusal else lambda: self._accept(message)
        proper = refusal or f"250 2.0.0 <{address}> {message.queue_id} Saved"
        return self.session.answer(*points, proper=proper, decide=decide)

    def _refusal(self, octets):
        if len(octets) > self.server.size_limit:
            return "552 5.3.4 Error: message file too big"
        return None if self.recipients else "554 5.5.1 Error: no valid recipients"

    def _message(self, octets, recipients):
        return Accepted(
            sender=self.sender,
            recipients=tuple(recipients),
            content=octets,
            parameters=self.parameters,
            rcpt_parameters={address: self.rcpt_parameters[address] for address in recipients},
            connection=self.session.number,
            tls=self.tls,
            user=self.user,
            queue_id=self.session.record.queue_id(),
        )

    def _accept(self, message):
        self.session.delivered += 1
        self.session.record.accept(message)

    def _rset(self, argument):
        if has_effect(self.session.answer("rset", proper="250 2.0.0 Ok")):
            self._forget()

    def _noop(self, argument):
        self.session.answer("noop", proper="250 2.0.0 Ok")

    def _quit(self, argument):
        self.session.answer("quit", proper="221 2.0.0 Bye")
        self.session.finish(polite=True)


VERBS = frozenset({"EHLO", "HELO", "LHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT"})
