"""Questions in: the benchmarks, their splits, prompt templates, answer extraction and comparison."""
