"""Pairs to token records on disk, and the plan that packs them: step to batch."""
