"""Routes, their health, metrics, previews and test events."""
