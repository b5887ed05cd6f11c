"""How tables are written: titles of metrics, which way is better, values, Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOTHING = "–"

TITLES = {
    "vus_pr": "VUS-PR, buffer 100",
    "vus_pr_10": "VUS-PR, buffer 10",
    "vus_pr_period": "VUS-PR, buffer of a period",
    "vus_roc": "VUS-ROC, buffer 100",
    "auc_pr": "AUC-PR",
    "r_auc_pr": "R-AUC-PR",
    "r_auc_roc": "R-AUC-ROC",
    "precision": "P",
    "recall": "R",
    "f1": "F1",
    "event_precision": "event P",
    "event_recall": "event R",
    "event_f1": "event F1",
    "composite_f1": "composite F1",
    "false_events": "false events",
    "affiliation_precision": "affiliation P",
    "affiliation_recall": "affiliation R",
    "affiliation_f1": "affiliation F1",
    "add": "ADD (rows)",
    "add_last": "ADD, last step (rows)",
    "f1_last": "F1, last step",
    "add_fixed": "ADD, fixed share (rows)",
    "f1_fixed": "F1, fixed share",
    "f1_threshold": "F1, any threshold",
    "pa_k_f1": "PA%20 F1",
    "pa_k_auc": "PA%K F1, mean over K",
    "detected": "segments found",
    "false_alarms_per_1000": "false alarms per 1,000",
    "alarm_share_normal": "normal rows in alarm",
    "delay_at_1_a_day": "delay at 1 false event a day (rows)",
    "hit_top1": "top channel right",
    "hit_100": "HitRate@100%",
    "hit_150": "HitRate@150%",
}
# Delays and false alarms: less is better. Everything else: more is better, or neither.
LOWER_IS_BETTER = frozenset(
    {
        "add",
        "add_last",
        "add_fixed",
        "false_events",
        "false_alarms_per_1000",
        "alarm_share_normal",
        "delay_at_1_a_day",
    }
)
NEITHER = frozenset({"share", "xi"})  # what was chosen, not how well it went
# Counts of rows or events; the other metrics lie between 0 and 1.
COUNTS = LOWER_IS_BETTER - {"alarm_share_normal"} | {"xi"}

# The columns of a table, as far as the runs have them; the first one sorts and ranks.
HEADLINE = {
    "label_free": (
        *("vus_pr", "vus_pr_10", "auc_pr", "r_auc_pr"),
        *("event_f1", "false_alarms_per_1000", "add"),
    ),
    "oracle": ("f1", "event_f1", "add"),
    "paper": ("f1", "precision", "recall", "r_auc_pr", "add"),
    "tsb_ad": ("vus_pr_period", "auc_pr"),
}


Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as plain text, the first of each line its heading; `notes` stand below."""

    head: Cells
    lines: tuple[Cells, ...]
    notes: Cells = ()

    def __str__(self) -> str:
        """In Markdown, the notes as a list below."""
        lines = [[escaped(cell) for cell in line] for line in self.lines]
        text = markdown([escaped(cell) for cell in self.head], lines)
        return text + (f"\n\n{bullets(map(escaped, self.notes))}" if self.notes else "")


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = True) -> str:
    """A table in Markdown; with `numbers` all columns but the first are set to the right."""
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (head, rule, *rows))


def bullets(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def escaped(text: str) -> str:
    """Text on one line in which no character is Markdown or HTML; what cannot be printed is �."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|])", r"\\\1", line)


def title(metric: str) -> str:
    """The heading of a metric: "vus_pr" is "VUS-PR"; one without a title keeps its own name."""
    return TITLES.get(metric, metric.replace("_", " "))


def heading(metric: str) -> str:
    """Title, and an arrow the way that is better, if any: "VUS-PR ↑"."""
    arrow = "" if metric in NEITHER else " ↓" if metric in LOWER_IS_BETTER else " ↑"
    return title(metric) + arrow


def value(metric: str, number: float) -> str:
    """A value as tables write it: three decimals between 0 and 1, else one; NaN is a dash."""
    if not math.isfinite(number):
        return NOTHING
    return f"{number:,.1f}" if metric in COUNTS or abs(number) >= 10 else f"{number:.3f}"


def mean_and_std(metric: str, mean: float, std: float) -> str:
    """ "0.412 ± 0.013"; the mean alone where there is no spread to tell."""
    text = value(metric, mean)
    return f"{text} ± {value(metric, std)}" if math.isfinite(mean) and math.isfinite(std) else text


def amount(number: float) -> str:
    """Seconds, rows a second, MiB: three significant digits, thousands separated; NaN is a dash."""
    if not math.isfinite(number):
        return NOTHING
    if number == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(number)))
    return f"{round(number, digits):,.{min(3, max(0, digits))}f}"


def numbers(seeds: Iterable[int]) -> str:
    """Seeds in short: (0, 1, 2, 5) is "0–2, 5"."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in spans)
