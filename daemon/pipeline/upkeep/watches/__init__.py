"""What is looked at again and again: the database's clock, the newest tick, the health of receivers."""
