"""Periodic work beside deliveries: maintenance, metrics of routes, health of receivers, gauges, automatic disabling."""
