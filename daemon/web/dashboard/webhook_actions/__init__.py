"""What a merchant does to one webhook: disable, enable, delete, rotate its key, test it, replay its deliveries."""
