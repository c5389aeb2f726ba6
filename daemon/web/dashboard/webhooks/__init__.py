"""What a merchant does with his webhooks: list, form, one webhook, its key, tests, replays, and what happened to it."""
