"""Plans that answer: lifecycle, transports, health and metrics."""
