"""Hooks for schemathesis, which loads this file because the configuration beside it names it."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
