"""The options of a server and of a pool: frozen, validated, and compared field by field."""
