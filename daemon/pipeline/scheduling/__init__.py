"""What may be sent next: one lane a route, two pools of places, and the ledger of what is in memory."""
