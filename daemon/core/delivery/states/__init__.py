"""The two state machines of the pipeline: a delivery in memory, and the lane of a route."""
