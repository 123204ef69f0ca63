"""The options of a server and of a pool: frozen, checked, compared whole."""
