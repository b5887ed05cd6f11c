"""The live state over HTTP: an API, a page, and what Prometheus scrapes."""
