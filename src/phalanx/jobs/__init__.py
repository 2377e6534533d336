"""Work spread over processes and devices."""
