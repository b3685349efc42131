"""The report's figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ftcot_jax.sweeps.results import ArmResult
from ftcot_jax.sweeps.tables import epoch_curve


def plot_accuracy_over_diversity(arms: Sequence[ArmResult], title: str, stem: Path) -> bool:
    """Draws accuracy over D with its 95% interval, other arms as level lines; writes `stem`.svg and `stem`.png.

    Returns:
      Whether there was a curve to draw: at least two values of D.
    """
    curve = sorted(
        (arm for arm in arms if _diversity(arm) is not None and not _capped(arm)), key=lambda arm: _diversity(arm) or 0
    )
    degrees = [_diversity(arm) or 0 for arm in curve]
    if len(set(degrees)) < 2 or len(set(degrees)) < len(degrees):
        return False
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    axes.fill_between(
        degrees,
        [100 * arm.interval.low for arm in curve],
        [100 * arm.interval.high for arm in curve],
        alpha=0.18,
        color="C0",
        linewidth=0,
    )
    axes.plot(degrees, [100 * arm.accuracy for arm in curve], "o-", color="C0", label="Fine-tune-CoT, D rationales")
    for arm, degree in zip(curve, degrees, strict=True):
        axes.plot([degree] * len(arm.by_seed), [100 * value for value in arm.by_seed], ".", color="C0", alpha=0.45)
    for number, arm in enumerate(arm for arm in arms if arm not in curve):
        _level(axes, arm, f"C{number + 1}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(degrees, [str(degree) for degree in degrees])
    axes.minorticks_off()
    axes.set_ylim(0, 104)
    axes.set_xlabel("diversity degree D (rationales sampled a question)")
    _write(figure, axes, title, stem)
    return True


def plot_accuracy_over_epochs(arms: Sequence[ArmResult], title: str, stem: Path) -> bool:
    """Draws each arm's accuracy after every epoch scored, mean over seeds; writes `stem`.svg and `stem`.png.

    Returns:
      Whether there was a curve to draw: an arm with at least two scores.
    """
    curves = [(arm, curve) for arm in arms if len(curve := epoch_curve(arm)) > 1]
    if not curves:
        return False
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, (arm, curve) in enumerate(curves):
        axes.plot(list(curve), [100 * value for value in curve.values()], "o-", ms=3, color=f"C{number}", label=arm.arm)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epochs")
    _write(figure, axes, title, stem)
    return True


def _write(figure: Figure, axes: Axes, title: str, stem: Path) -> None:
    axes.set_ylabel("held-out accuracy, %")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    for suffix in (".svg", ".png"):
        figure.savefig(stem.with_suffix(suffix), dpi=150)
    plt.close(figure)


def _level(axes: Axes, arm: ArmResult, colour: str) -> None:
    axes.axhline(100 * arm.accuracy, color=colour, linestyle="--", label=arm.arm)
    axes.axhspan(100 * arm.interval.low, 100 * arm.interval.high, color=colour, alpha=0.10, linewidth=0)


def _diversity(arm: ArmResult) -> int | None:
    return arm.trials[0].diversity if arm.trials[0].has_rationale else None


def _capped(arm: ArmResult) -> bool:
    return arm.trials[0].per_question is not None
