"""How far sampling is, in one line."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """Counts at one moment.

    Attributes:
      done: questions all of whose samples are bought.
      total: questions.
      refused: questions some of whose samples the server will not give.
      in_flight: requests sent and not answered yet.
      concurrency: requests in flight at most, as found by now.
      retries: requests of this run that had to be sent again.
      tokens: of this run, prompt and completion.
      cost: US dollars in the ledger; None without a price.
    """

    done: int
    total: int
    refused: int
    in_flight: int
    concurrency: int
    retries: int
    tokens: int
    cost: float | None

    @property
    def note(self) -> str:
        """Everything but done and total, for a progress line."""
        parts = [f"{self.in_flight} of {self.concurrency} in flight", f"{_short(self.tokens)} tokens"]
        if self.cost is not None:
            parts.append(f"${self.cost:.4f}" if self.cost < 1 else f"${self.cost:.2f}")
        parts += [f"{count} {name}" for name, count in (("retries", self.retries), ("refused", self.refused)) if count]
        return ", ".join(parts)


def _short(count: int) -> str:
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 1e6 else f"{count / 1e6:.1f}M"
