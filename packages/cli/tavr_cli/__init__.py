"""The command `tavr`."""
