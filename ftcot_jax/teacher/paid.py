"""What a ledger says was paid, for reports: it is read while others write to it, and never written."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from ftcot_jax.errors import FtcotError


def dollars_paid(file: Path) -> dict[str, float]:
    """What a ledger says was paid, in US dollars by dataset, without writing to it; of one that is not there nothing.

    Raises:
      FtcotError: the file is not a ledger.
    """
    if not file.exists():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] < 2:
                return {}  # of a time before costs were written down
            rows = db.execute(
                "SELECT dataset, SUM(cost) FROM attempts JOIN jobs ON jobs.id = attempts.job "
                "WHERE outcome = 'answered' AND cost > 0 GROUP BY dataset"
            )
            return dict(rows.fetchall())
    except sqlite3.DatabaseError as error:
        raise FtcotError(f"{file}: not a ledger ({error})") from error
