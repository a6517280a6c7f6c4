"""What happens to a server in years of operation, each held against its goal."""
