"""Hard votes on run ends, how members agree, and members that are misaligned. No torch."""
