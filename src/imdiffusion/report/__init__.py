"""What a person looks at: the offline page (uPlot is vendored beside it) and the figures."""
