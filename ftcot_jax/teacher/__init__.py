"""Questions to completions: the sampler, its ledger, and published completions."""
