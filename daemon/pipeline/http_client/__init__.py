"""The HTTP client of the pipeline: connections to receivers, of which nothing may be believed."""
