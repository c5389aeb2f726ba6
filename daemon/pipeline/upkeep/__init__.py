"""Beside the way of an event: maintenance of tables, gauges, automatic disabling."""
