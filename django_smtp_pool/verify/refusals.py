"""What well-known providers mean by a refusal, and what to do about it: a table, by host and code. Pure.

Providers change the words of a reply, so these decide nothing: the host, the point of the conversation, the code,
and the enhanced code where it tells more.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import Stage
from ..core.options.options import ServerOptions
from ..core.replies import Reply

GOOGLE = ("gmail.com", "googlemail.com")
MICROSOFT = ("office365.com", "outlook.com")
SES = ("amazonaws.com", "amazonaws.com.cn")
SENDGRID = ("sendgrid.net",)
MAILGUN = ("mailgun.org",)
POSTMARK = ("postmarkapp.com",)
FASTMAIL = ("fastmail.com",)
YAHOO = ("yahoo.com", "aol.com")

LOGIN = frozenset({Stage.AUTH})
SENDER = frozenset({Stage.MAIL})
MESSAGE = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT})

GOOGLE_LOGIN = (
    "Google takes no account password here: make an app password (myaccount.google.com/apppasswords), or use OAuth2"
)
GOOGLE_XOAUTH2 = (
    "Google does not take the access token: it must be this user's, with the scope https://mail.google.com/; a "
    "service account needs domain-wide delegation of that scope"
)
GOOGLE_LOGINS = (
    "Google counts logins: wait, then have fewer of them. Lower max_connections, and leave idle_timeout, max_messages "
    "and max_lifetime as they are, so that connections are kept"
)
GOOGLE_QUOTA = (
    "the account has sent as much as it may in a day: wait, or send by a provider that is meant for bulk mail"
)
SMTP_AUTH = (
    "Microsoft 365 does not let this mailbox log in here. Either SMTP AUTH is off for it: an administrator switches it "
    "on (Users, Active users, Mail, Manage email apps, Authenticated SMTP). Or a policy of the organization forbids "
    "it, such as security defaults; where it forbids passwords only, log in by OAuth2 (option oauth2)"
)
MICROSOFT_LOGIN = (
    "check username and password; Microsoft also says so where logins by password are switched off: then use OAuth2 "
    "(option oauth2)"
)
MICROSOFT_XOAUTH2 = (
    "Microsoft does not take the access token for this mailbox. By client credentials the application needs the "
    "permission SMTP.SendAsApp with the administrator's consent, a service principal in Exchange with the object id of "
    "the enterprise application, and FullAccess to the mailbox; by refresh token it needs SMTP.Send"
)
NO_BASIC_AUTH = (
    "Microsoft 365 takes no passwords here: log in by OAuth2 (option oauth2); until Microsoft removes them for good, "
    "an administrator can switch them on again"
)
NOBODY = "nobody is logged in: set username, and password or oauth2"
THREE_AT_ONCE = (
    "Microsoft 365 takes 3 connections of a mailbox at once, from all processes together: lower max_connections, or "
    "the number of processes that send"
)
SEND_AS = (
    "this mailbox may not send from that address: send from its own (DEFAULT_FROM_EMAIL), or have it given the "
    "permission Send As"
)
SES_LOGIN = (
    "SES takes SMTP credentials, made in its console (SMTP settings) for this very region: not an AWS access key and "
    "its secret"
)
SES_IDENTITY = (
    "where the reply speaks of verification: verify the sender's address or domain in this region; in the sandbox the "
    "recipients must be verified too, so ask AWS for production access"
)
SES_RATE = (
    "the sending rate or the daily quota of the account is used up: set rate_limit to the account's rate, divided by "
    "the number of processes, or ask AWS for more"
)
SENDGRID_KEY = "the user name is the word apikey, and the password an API key with the permission Mail Send"
SENDGRID_CREDITS = "the account may send no more for now: see its plan, credits and billing at SendGrid"
SENDGRID_IDENTITY = (
    "where the reply speaks of a Sender Identity: verify the From address or its domain (Sender Authentication)"
)
MAILGUN_LOGIN = (
    "Mailgun takes the SMTP credentials of the sending domain (Domain settings, SMTP credentials), not an API key; "
    "domains of the EU region are at smtp.eu.mailgun.org"
)
MAILGUN_DOMAIN = "where the reply says that the domain may not send: activate the account, or verify the domain"
POSTMARK_LOGIN = (
    "user name and password are both the server's API token (not the account's), or the access key and the secret key "
    "of an SMTP token; and SMTP must be enabled for the server"
)
FASTMAIL_LOGIN = (
    "Fastmail takes an app password with access to SMTP (Settings, Privacy & Security), and the whole address that one "
    "logs in with"
)
FASTMAIL_FROM = "the From address must be one of the account's sending identities"
YAHOO_LOGIN = "make an app password in the account's security settings, or use OAuth2"


@dataclass(frozen=True)
class Known:
    """One kind of refusal.

    Arguments:
        at: where in the conversation; None = anywhere.
        enhanced: the enhanced status code; None = any, or none.
        by_token: whether we log in by an access token; None = either way.
    """

    hosts: tuple[str, ...]
    at: frozenset[Stage] | None
    code: int
    enhanced: tuple[int, int, int] | None
    advice: str
    by_token: bool | None = None

    def fits(self, reply: Reply, stage: Stage | None, server: ServerOptions) -> bool:
        """Tell whether a refusal is one of these."""
        return (
            reply.code == self.code
            and self.enhanced in {None, reply.enhanced}
            and (self.at is None or stage in self.at)
            and self.by_token in {None, server.uses_token}
            and any(f".{server.host.lower()}".endswith(f".{host}") for host in self.hosts)
        )


# The first that fits is the answer.
KNOWN = (
    Known(GOOGLE, LOGIN, 534, None, GOOGLE_LOGIN),
    Known(GOOGLE, LOGIN, 535, None, GOOGLE_LOGIN, by_token=False),
    Known(GOOGLE, LOGIN, 535, None, GOOGLE_XOAUTH2, by_token=True),
    Known(GOOGLE, LOGIN, 454, (4, 7, 0), GOOGLE_LOGINS),
    Known(GOOGLE, None, 550, (5, 4, 5), GOOGLE_QUOTA),
    Known(MICROSOFT, LOGIN, 535, (5, 7, 139), SMTP_AUTH),
    Known(MICROSOFT, LOGIN, 535, None, MICROSOFT_LOGIN, by_token=False),
    Known(MICROSOFT, LOGIN, 535, None, MICROSOFT_XOAUTH2, by_token=True),
    Known(MICROSOFT, None, 550, (5, 7, 30), NO_BASIC_AUTH),
    Known(MICROSOFT, None, 530, (5, 7, 57), NOBODY),
    Known(MICROSOFT, None, 432, None, THREE_AT_ONCE),
    Known(MICROSOFT, MESSAGE, 550, (5, 7, 60), SEND_AS),
    Known(MICROSOFT, MESSAGE, 554, (5, 2, 252), SEND_AS),
    Known(SES, LOGIN, 535, None, SES_LOGIN),
    Known(SES, MESSAGE, 554, None, SES_IDENTITY),
    Known(SES, None, 454, None, SES_RATE),
    Known(SENDGRID, LOGIN, 535, None, SENDGRID_KEY),
    Known(SENDGRID, LOGIN, 451, None, SENDGRID_CREDITS),
    Known(SENDGRID, SENDER, 550, None, f"nobody is logged in: {SENDGRID_KEY}"),
    Known(SENDGRID, MESSAGE, 550, None, SENDGRID_IDENTITY),
    Known(MAILGUN, LOGIN, 535, None, MAILGUN_LOGIN),
    Known(MAILGUN, MESSAGE, 421, None, MAILGUN_DOMAIN),
    Known(POSTMARK, LOGIN, 535, None, POSTMARK_LOGIN),
    Known(FASTMAIL, LOGIN, 535, None, FASTMAIL_LOGIN),
    Known(FASTMAIL, MESSAGE, 551, (5, 7, 1), FASTMAIL_FROM),
    Known(YAHOO, LOGIN, 535, None, YAHOO_LOGIN, by_token=False),
)


def known_advice(reply: Reply, stage: Stage | None, server: ServerOptions) -> str | None:
    """Return what to do about a refusal that is known of this host, None where it is not."""
    return next((each.advice for each in KNOWN if each.fits(reply, stage, server)), None)
