"""What grows with what: D, records, trials, slots, devices, length. See `python -m benchmarks.scaling --help`."""
