"""An audit in parts: ranges of the event log, judged in processes of their own, and what those say to each other."""
