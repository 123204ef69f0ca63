"""The SMTP conversation as generators, without sockets, threads or clocks."""
