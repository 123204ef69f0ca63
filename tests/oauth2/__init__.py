"""OAuth2: tokens, generators and their cache."""
