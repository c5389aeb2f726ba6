"""Pages of events, of the feed and of refused messages; the catalogue."""
