"""What the machine does, measured: throughput beside other programs on the same work."""
