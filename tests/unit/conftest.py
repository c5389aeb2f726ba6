"""Settings of hypothesis: no deadline, as a busy machine slows examples down; few examples, so that all takes seconds."""

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=50)
settings.load_profile("unit")
