"""One offline HTML page about the runs of a benchmark: tables, plots as inline SVG, failures."""

from imdiffusion_bench.page.document import write_page

__all__ = ["write_page"]
