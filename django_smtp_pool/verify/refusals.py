"""What a refusal by a well-known provider means, and what to do: a table by host and code. Pure.

Providers change the text of their replies. So entries are found by the host, the stage of the conversation, the code,
and the enhanced code if it is more specific.
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
    "Google does not accept the account's password here: create an app password "
    "(myaccount.google.com/apppasswords), or use OAuth2"
)
GOOGLE_XOAUTH2 = (
    "Google refused the access token: it must belong to this user and have the scope https://mail.google.com/; a "
    "service account needs domain-wide delegation of that scope"
)
GOOGLE_LOGINS = (
    "too many logins for Google: wait, then log in less often. Lower max_connections, and do not lower idle_timeout, "
    "max_messages and max_lifetime, so that connections are reused"
)
GOOGLE_QUOTA = "the account has reached its daily sending limit: wait, or use a provider for bulk mail"
SMTP_AUTH = (
    "Microsoft 365 does not allow this mailbox to log in here. Either SMTP AUTH is disabled for it: an administrator "
    "can enable it (Users, Active users, Mail, Manage email apps, Authenticated SMTP). Or a policy of the "
    "organization, such as security defaults, forbids it; if it forbids passwords only, log in with OAuth2 (option "
    "oauth2)"
)
MICROSOFT_LOGIN = (
    "check username and password; Microsoft sends the same reply if password logins are disabled: then use OAuth2 "
    "(option oauth2)"
)
MICROSOFT_XOAUTH2 = (
    "Microsoft refused the access token for this mailbox. With client credentials the application needs the permission "
    "SMTP.SendAsApp with admin consent, a service principal in Exchange with the object id of the enterprise "
    "application, and FullAccess to the mailbox; with a refresh token it needs SMTP.Send"
)
NO_BASIC_AUTH = (
    "Microsoft 365 does not accept passwords here: log in with OAuth2 (option oauth2); until Microsoft removes "
    "password logins, an administrator can enable them again"
)
NOBODY = "the session is not logged in: set username, and password or oauth2"
THREE_AT_ONCE = (
    "Microsoft 365 allows 3 connections per mailbox, for all processes together: lower max_connections, or the number "
    "of processes that send"
)
SEND_AS = (
    "this mailbox may not send from that address: send from its own address (DEFAULT_FROM_EMAIL), or ask for the "
    "permission Send As"
)
SES_LOGIN = (
    "SES needs SMTP credentials, created in its console (SMTP settings) for this region: not an AWS access key and its "
    "secret"
)
SES_IDENTITY = (
    "if the reply mentions verification: verify the sender's address or domain in this region; in the sandbox the "
    "recipients must be verified too, so ask AWS for production access"
)
SES_RATE = (
    "the account has reached its sending rate or daily quota: set rate_limit to the account's rate, divided by the "
    "number of processes, or ask AWS for a higher limit"
)
SENDGRID_KEY = "the username is the word apikey, and the password is an API key with the permission Mail Send"
SENDGRID_CREDITS = "the account has no credits left: check its plan, credits and billing at SendGrid"
SENDGRID_IDENTITY = (
    "if the reply mentions a Sender Identity: verify the From address or its domain (Sender Authentication)"
)
MAILGUN_LOGIN = (
    "Mailgun needs the SMTP credentials of the sending domain (Domain settings, SMTP credentials), not an API key; "
    "domains of the EU region are at smtp.eu.mailgun.org"
)
MAILGUN_DOMAIN = "if the reply says that the domain is not allowed to send: activate the account, or verify the domain"
POSTMARK_LOGIN = (
    "username and password are both the server's API token (not the account's), or the access key and the secret key "
    "of an SMTP token; and SMTP must be enabled for the server"
)
FASTMAIL_LOGIN = (
    "Fastmail needs an app password with access to SMTP (Settings, Privacy & Security), and the complete address that "
    "the account logs in with"
)
FASTMAIL_FROM = "the From address must be one of the account's sending identities"
YAHOO_LOGIN = "create an app password in the account's security settings, or use OAuth2"


@dataclass(frozen=True)
class Known:
    """One kind of refusal.

    Arguments:
        at: the stage of the conversation; None for any.
        enhanced: the enhanced status code; None for any, or for none.
        by_token: whether the login is by access token; None for either.
    """

    hosts: tuple[str, ...]
    at: frozenset[Stage] | None
    code: int
    enhanced: tuple[int, int, int] | None
    advice: str
    by_token: bool | None = None

    def fits(self, reply: Reply, stage: Stage | None, server: ServerOptions) -> bool:
        """Return whether a refusal matches this entry."""
        return (
            reply.code == self.code
            and self.enhanced in {None, reply.enhanced}
            and (self.at is None or stage in self.at)
            and self.by_token in {None, server.uses_token}
            and any(f".{server.host.lower()}".endswith(f".{host}") for host in self.hosts)
        )


# The first entry that matches is used.
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
    Known(SENDGRID, SENDER, 550, None, f"the session is not logged in: {SENDGRID_KEY}"),
    Known(SENDGRID, MESSAGE, 550, None, SENDGRID_IDENTITY),
    Known(MAILGUN, LOGIN, 535, None, MAILGUN_LOGIN),
    Known(MAILGUN, MESSAGE, 421, None, MAILGUN_DOMAIN),
    Known(POSTMARK, LOGIN, 535, None, POSTMARK_LOGIN),
    Known(FASTMAIL, LOGIN, 535, None, FASTMAIL_LOGIN),
    Known(FASTMAIL, MESSAGE, 551, (5, 7, 1), FASTMAIL_FROM),
    Known(YAHOO, LOGIN, 535, None, YAHOO_LOGIN, by_token=False),
)


def known_advice(reply: Reply, stage: Stage | None, server: ServerOptions) -> str | None:
    """Return what to do about a refusal by this host, or None if it is not in the table."""
    return next((each.advice for each in KNOWN if each.fits(reply, stage, server)), None)
