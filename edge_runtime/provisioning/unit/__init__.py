"""The server as a service of systemd: its units, users and folders."""
