"""What was sent, and what happened in the shop: deliveries, events, and why each went where it went."""
