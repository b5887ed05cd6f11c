"""Protocols on one run, never mixed: without labels, as an oracle, as the paper, as TSB-AD.

    label_free   ranking of the rows, and the alarm `score > 1` that a user gets
    oracle       the threshold with the best plain F1, chosen on the test labels
    paper        what the released code reports: point-adjusted, everything chosen on the labels
    tsb_ad       VUS-PR as TSB-AD defines it, of its own files alone

A metric that is not defined (no alarm for a precision, no period for a delay a day, no causes for
the channels) is NaN, and its key is there all the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import DataError
from imdiffusion_bench import columns
from imdiffusion_bench.metrics import (
    NAN,
    Quality,
    auc_pr,
    check_lengths,
    events,
    points,
    range_based,
    segments,
)
from imdiffusion_bench.metrics.events import affiliation
from imdiffusion_bench.split import Cause, Scores, Truth, check_label

Results = dict[str, float]

# Released code, compute_score.py: the 79 multiples of .05 % up to 3.95 % (for SMD and GCP).
SHARES: tuple[float, ...] = tuple(i * 0.0005 for i in range(1, 80))
# Released code, ensemble_proper.py: the share where it does not search (MSL, SMAP, PSM, SWaT).
FIXED_SHARE = 0.02


def evaluate(
    scores: Scores,
    truth: Truth,
    *,
    period_s: float | None,
    where: str,
    seed: int = 0,
    tsb_ad_window: int | None = None,
) -> dict[str, Results]:
    """{"label_free", "oracle", "paper"}, each metric by metric; and "tsb_ad" where it has a window.

    The labels are read here, once, and by nothing before; so are the causes, where there are
    channel scores. period_s: seconds between rows, None = unknown. where: "SMD machine-1-2", for
    messages. seed: of the order within tied scores (`metrics/range_based.py`). tsb_ad_window: the
    largest buffer of TSB-AD's measure (`metrics/tsb_ad.py`).
    Raises DataError for labels that do not fit the scores and for scores that are all NaN, and
    whatever the truth raises.
    """
    score = np.asarray(scores.score, np.float64)
    if score.ndim != 1 or np.isnan(score).all():
        raise DataError(
            f"the detector gave no score for any row of {where} (shape {score.shape})",
            remedy="Scores are one number a row, NaN only where a row cannot be scored.",
        )
    label = check_label(truth.label(), len(score), where)
    causes: list[Cause] = []
    if scores.channel_scores is not None and truth.causes is not None:
        causes = truth.causes()
    found = {
        "label_free": {
            **label_free(label, score, period_s=period_s, seed=seed),
            **_channels(scores.channel_scores, causes),
        },
        "oracle": oracle(label, score),
        "paper": paper(label, score, scores.step_errors, seed=seed),
    }
    if tsb_ad_window is not None:
        found["tsb_ad"] = {
            "vus_pr_period": range_based.vus_pr_period(label, score, tsb_ad_window),
            "auc_pr": auc_pr(label, score),
        }
    return found


def label_free(label: Flags, score: Floats, *, period_s: float | None, seed: int = 0) -> Results:
    """The ranking of rows, and everything about the alarm `score > 1` (NaN: no alarm).

    Only delay_at_1_a_day looks at labels for its threshold, in units of false alarms.
    """
    alarm = score > 1.0
    return {
        "auc_pr": auc_pr(label, score),
        **range_based.surface(label, score, seed=seed),
        **_named("", points.point(label, alarm)),
        **_named("event_", events.event(label, alarm)),
        "composite_f1": events.composite_f1(label, alarm),
        **_named("affiliation_", affiliation(label, alarm)),
        "add": events.add(label, alarm),
        "detected": events.detected(label, alarm),
        "false_events": events.false_events(label, alarm),
        "false_alarms_per_1000": events.false_alarms_per_1000(label, alarm),
        "alarm_share_normal": events.alarm_share_normal(label, alarm),
        "delay_at_1_a_day": events.delay_at_false_alarms(
            label, score, per_day=1.0, period_s=period_s
        ),
        **{name: float(metric(label, score)) for name, metric in joined_metrics().items()},
    }


def joined_metrics() -> dict[str, Callable[[Flags, Floats], float]]:
    """The metrics of other distributions, entry points of the group `imdiffusion.metrics`.

    Each is called with the label bool (T,) and, as the name of its second parameter says, the
    `score` float64 (T,) or the `alarm` bool (T,), and gives a number from 0 to 1, more is better.
    Raises ConfigError for one that cannot be imported, or has the name of a metric here.
    """
    taken = columns.TITLES.keys() | columns.NEITHER
    found = {}
    for name in registry.names("metrics"):
        metric = registry.load("metrics", name, taken=taken)
        of_alarm = "alarm" in inspect.signature(metric).parameters
        found[name] = partial(_of_alarm, metric) if of_alarm else metric
    return found


def _of_alarm(metric: Callable[[Flags, Flags], float], label: Flags, score: Floats) -> float:
    return metric(label, score > 1.0)


def oracle(label: Flags, score: Floats) -> Results:
    """At the threshold with the best plain F1 on these labels: points, events and delay."""
    best = points.best_f1(label, score)
    alarm = score >= best.threshold
    return {
        "f1": best.f1,
        "precision": best.precision,
        "recall": best.recall,
        **_named("event_", events.event(label, alarm)),
        "composite_f1": events.composite_f1(label, alarm),
        "add": events.add(label, alarm),
        "detected": events.detected(label, alarm),
    }


@dataclass(frozen=True, slots=True)
class Vote:
    """The pair (share, xi) with the best point-adjusted F1, and the alarm (T,) it gives."""

    share: float
    xi: float
    alarm: Flags
    f1: float


def paper(
    label: Flags,
    score: Floats,
    step_errors: NDArray[np.float32] | None,
    *,
    every: int = 3,
    count: int = 10,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> Results:
    """The released code's protocol: point-adjusted, share and xi chosen on these labels.

    step_errors (S, T), last step last; `every` and `count` choose the steps that vote (`steps`).
    precision, recall, f1 and add (in rows) are of one alarm, that of the best pair; `_last` is the
    same search over the last step alone; `_fixed` has the share FIXED_SHARE and searches xi alone.
    r_auc_pr is of the mean over the voting steps of error / mean error. The released code chooses
    the share by the last step alone, averaged over runs; here the pair is chosen together, for
    each run, which can only be kinder.
    f1_threshold has no vote and no limit to the share: every distinct score is tried as a
    threshold. Without step_errors f1 is the same; share is then that of the rows in alarm, xi and
    what concerns steps NaN.
    """
    best = points.best_point_adjusted_f1(label, score)
    if step_errors is None:
        alarm = score >= best.threshold
        return {
            **_adjusted(label, alarm),
            "r_auc_pr": range_based.r_auc_pr(label, score, seed=seed),
            "share": float(np.mean(alarm)),
            "f1_threshold": best.f1,
            **dict.fromkeys(("xi", "f1_last", "add_last", "f1_fixed", "add_fixed"), NAN),
        }
    chosen = step_errors[steps(len(step_errors), every=every, count=count)].astype(np.float64)
    vote = best_vote(label, chosen, shares)
    last = best_vote(label, chosen[:1], shares)
    fixed = best_vote(label, chosen, (FIXED_SHARE,))
    return {
        **_adjusted(label, vote.alarm),
        "r_auc_pr": range_based.r_auc_pr(label, _joined(chosen), seed=seed),
        "share": vote.share,
        "xi": vote.xi,
        "f1_threshold": best.f1,
        "f1_last": last.f1,
        "add_last": events.add(label, last.alarm),
        "f1_fixed": fixed.f1,
        "add_fixed": events.add(label, fixed.alarm),
    }


def steps(available: int, *, every: int = 3, count: int = 10) -> list[int]:
    """Positions of the voting steps, the last one first: 0, every, 2 every, ... from the end.

    With fewer steps than that takes, every step from the end votes, at most `count`.
    """
    if available <= every * (count - 1):
        every = 1
    return [available - 1 - back for back in range(0, available, every)][:count]


def best_vote(label: Flags, errors: Floats, shares: Sequence[float]) -> Vote:
    """The share and xi whose vote has the best point-adjusted F1; of equals the smallest of both.

    errors (n, T) of the voting steps, the last step first. As `RankVote`: step s flags its largest
    errors, a share x (mean square of the last step / that of step s) of the rows; a row is in
    alarm when more than xi (0 to n - 1) steps flag it. A row with NaN in any step is never in
    alarm. Raises DataError where every row has one.
    """
    check_lengths(label, errors[0])
    known = ~np.isnan(errors).any(axis=0)
    if not known.any():
        raise DataError(
            "no row has an error at every voting step",
            remedy="Hand over step errors that belong to the scores, or None.",
        )
    seen = errors[:, known]
    power = np.square(seen).mean(axis=1)
    part = power[0] / np.maximum(power, np.finfo(np.float64).tiny)
    wanted = np.minimum(np.multiply.outer(np.asarray(shares, np.float64), part), 1.0)
    levels = np.stack([np.quantile(one, 1.0 - w) for one, w in zip(seen, wanted.T, strict=True)])
    runs = segments(label)
    lengths = runs[:, 1] - runs[:, 0]
    best, best_votes = (-1.0, 0, 0), np.zeros(len(label), np.int64)
    for at in range(len(shares)):
        votes = np.zeros(len(label), np.int64)
        votes[known] = (seen > levels[:, at, None]).sum(axis=0)
        f1 = _f1_of_every_xi(label, votes, runs, lengths, len(errors))
        xi = int(np.argmax(f1))
        if f1[xi] > best[0]:
            best, best_votes = (float(f1[xi]), at, xi), votes
    return Vote(float(shares[best[1]]), float(best[2]), best_votes > best[2], best[0])


def _f1_of_every_xi(
    label: Flags,
    votes: NDArray[np.int64],
    runs: NDArray[np.int64],
    lengths: NDArray[np.int64],
    voters: int,
) -> Floats:
    """Point-adjusted F1 (voters,) of the alarms votes > 0, votes > 1, ... votes > voters - 1."""
    # reduceat takes the maximum from each boundary to the next: every second one is a segment
    bounds = runs.ravel() if runs[-1, 1] < len(votes) else runs.ravel()[:-1]
    peaks = np.maximum.reduceat(votes, bounds)[::2]
    above = np.bincount(peaks, weights=lengths, minlength=voters + 1)
    right = above[::-1].cumsum()[::-1][1:]
    wrong = np.bincount(votes[~label], minlength=voters + 1)[::-1].cumsum()[::-1][1:]
    scored: Floats = 2.0 * right / (right + wrong + float(lengths.sum()))
    return scored


def _joined(errors: Floats) -> Floats:
    """Errors (n, T) -> mean over steps of error / (mean error of the step), NaN where one is."""
    mean = np.nanmean(errors, axis=1, keepdims=True)
    joined: Floats = (errors / np.where(mean > 0, mean, 1.0)).mean(axis=0)
    return joined


def _adjusted(label: Flags, alarm: Flags) -> Results:
    """Point-adjusted precision, recall and F1, PA%K, and the delay of the very same alarm."""
    return {
        **_named("", points.point_adjusted(label, alarm)),
        "pa_k_f1": points.pa_k(label, alarm).f1,
        "pa_k_auc": points.pa_k_auc(label, alarm),
        "add": events.add(label, alarm),
        "detected": events.detected(label, alarm),
    }


def _named(prefix: str, quality: Quality) -> Results:
    return {f"{prefix}{name}": value for name, value in quality._asdict().items()}


def _channels(channel_scores: NDArray[np.float32] | None, causes: Sequence[Cause]) -> Results:
    if channel_scores is None:
        return dict.fromkeys(("hit_top1", "hit_100", "hit_150"), NAN)
    return {
        "hit_top1": events.hit_top1(channel_scores, causes),
        "hit_100": events.hit_rate(channel_scores, causes, 100),
        "hit_150": events.hit_rate(channel_scores, causes, 150),
    }


def metric_names() -> list[tuple[str, str, str]]:
    """(name, its heading, the protocols that have it) of every metric.

    They are read off an evaluation of eight rows, so that none can be forgotten.
    """
    error = np.arange(8, dtype=np.float32)
    label = error > 5
    scores = Scores(error.astype(np.float64), np.tile(error, (2, 1)), error[:, None])
    truth = Truth(lambda: label, list)
    everything = evaluate(scores, truth, period_s=None, where="eight rows", tsb_ad_window=2)
    found: dict[str, list[str]] = {}
    for protocol, metrics in everything.items():
        for metric in metrics:
            found.setdefault(metric, []).append(protocol)
    return [(name, columns.heading(name), ", ".join(where)) for name, where in found.items()]


SIZES = (1, 2, 3, 5, 10, 20, 30, 50)


def ensemble_curve(step_errors: NDArray[np.float32], label: NDArray[np.bool_]) -> dict[str, Any]:
    """AUC-PR of the mean error over the last n steps, and the correlation between steps.

    step_errors (S, T), the last step last; label (T,). Each step's errors are divided by their
    mean first, so that an early, noisier step does not outweigh the late ones. Rows that any step
    left without an error are not looked at. `ensemble_voting`: the AUC-PR of the mean over the ten
    steps that vote in the released code, every third from the last. `step_correlation`: mean
    Pearson correlation of the last step with each other step of the last ten.
    """
    known = ~np.isnan(step_errors).any(axis=0)
    errors, truth = step_errors[:, known].astype(np.float64), label[known]
    voters = steps(len(errors))
    sizes = [size for size in SIZES if size <= len(errors)]
    level = errors.mean(axis=1, keepdims=True)
    relative = errors / np.where(level > 0, level, 1.0)
    curve = [
        auc_pr(truth, relative[-size:].mean(axis=0)) if truth.any() else None for size in sizes
    ]
    joined = auc_pr(truth, relative[voters].mean(axis=0)) if truth.any() else None
    late = errors[-10:]
    correlation = None
    if len(late) > 1 and (late.std(axis=1) > 0).all():
        correlation = float(np.corrcoef(late)[-1, :-1].mean())
    return {
        "ensemble_sizes": sizes,
        "ensemble_auc_pr": curve,
        "ensemble_voting": joined,
        "step_correlation": correlation,
    }
