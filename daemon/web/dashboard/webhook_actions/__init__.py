"""Actions on one webhook: disable, enable, delete, rotate its key, send sample events, replay its deliveries."""
