"""An engine whose plan runs in a process of its own, which is replaced when it ends."""
