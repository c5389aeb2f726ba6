"""The webhooks of a tenant: the list, the page of one webhook, its key, its chart, and the history."""
