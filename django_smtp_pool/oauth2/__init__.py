"""OAuth2: access tokens, by a generator of your own or one of those built in."""

from .generators import AccessToken as AccessToken
