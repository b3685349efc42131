"""The ledger's tables: as they were first, and what came later."""

from __future__ import annotations

FIRST_LAYOUT = """
CREATE TABLE IF NOT EXISTS attempts (
  id INTEGER PRIMARY KEY,
  request TEXT NOT NULL,
  numbers TEXT NOT NULL,
  sent_at REAL NOT NULL,
  outcome TEXT,
  prompt_tokens INTEGER,
  completion_tokens INTEGER
);
CREATE TABLE IF NOT EXISTS samples (
  request TEXT NOT NULL,
  number INTEGER NOT NULL,
  text TEXT NOT NULL,
  finish_reason TEXT,
  attempt INTEGER NOT NULL REFERENCES attempts (id),
  PRIMARY KEY (request, number)
) WITHOUT ROWID;
"""
# Added to ledgers of the first layout as well: they go on without buying anything again.
SECOND_LAYOUT = """
ALTER TABLE attempts ADD COLUMN owner INTEGER;
ALTER TABLE attempts ADD COLUMN job INTEGER;
ALTER TABLE attempts ADD COLUMN cost REAL;
ALTER TABLE attempts ADD COLUMN duplicates INTEGER;
ALTER TABLE samples ADD COLUMN reasoning TEXT;
UPDATE attempts SET outcome = 'unknown: its process ended' WHERE outcome IS NULL;
CREATE TABLE owners (id INTEGER PRIMARY KEY, machine TEXT NOT NULL, pid INTEGER NOT NULL, beat INTEGER NOT NULL);
CREATE TABLE jobs (id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, step TEXT NOT NULL, UNIQUE (dataset, step));
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX open_attempts ON attempts (request) WHERE outcome IS NULL;
PRAGMA user_version = 2;
"""
