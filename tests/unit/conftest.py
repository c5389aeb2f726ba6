"""A busy machine makes a slow example, not a wrong one; and all of tests/unit stays a matter of seconds."""

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=50)
settings.load_profile("unit")
