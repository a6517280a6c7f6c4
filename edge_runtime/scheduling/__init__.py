"""Which request runs next: pure policy, no clock and no threads of its own."""
