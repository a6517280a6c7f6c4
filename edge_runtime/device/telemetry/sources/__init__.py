"""What gives samples: the kernel's files, programs, libraries, and recordings."""
