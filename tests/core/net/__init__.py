"""The network: sockets, TLS, proxies and addresses."""
