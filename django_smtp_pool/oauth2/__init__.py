"""OAuth2: access tokens from a generator of the project or a built-in one."""

from .generators import AccessToken as AccessToken
