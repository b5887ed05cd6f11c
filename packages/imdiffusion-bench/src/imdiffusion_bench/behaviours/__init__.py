"""Behaviours: faults as a user thinks of them, and how detectors meet each.

question = Question(("fast", "mahalanobis"), ("spike", "frozen"), SystemDials(channels=21))
records = list(run_behaviours(question))
print(tables(document(question, records)))
"""

from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.behaviours.measuring import Question, document, run_behaviours
from imdiffusion_bench.behaviours.scenarios import SCENARIOS, Series, make_series

__all__ = [
    "SCENARIOS",
    "Question",
    "Series",
    "SystemDials",
    "document",
    "make_series",
    "run_behaviours",
]
