"""The form that creates and edits a webhook, with its preview."""
