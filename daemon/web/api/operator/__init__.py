"""What operators ask of the whole installation, and who may sign in."""
