"""Prompts to text with a static-shape key-value cache."""
