"""Completions to (prompt, label) pairs: verdicts, selection, yield report."""
