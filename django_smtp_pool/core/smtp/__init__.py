"""The SMTP conversation as generators: no socket, no thread, no clock."""
