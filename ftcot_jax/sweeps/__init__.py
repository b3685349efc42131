"""Grid to trials to results: the pool, and the report."""
