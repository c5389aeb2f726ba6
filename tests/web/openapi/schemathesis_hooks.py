"""What schemathesis does not know of itself: it loads this file by the configuration beside it."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
