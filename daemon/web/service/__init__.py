"""The functions that the API and the dashboard share."""
