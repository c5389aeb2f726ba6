"""Periodic work beside deliveries: maintenance of tables, metrics of routes, gauges, automatic disabling."""
