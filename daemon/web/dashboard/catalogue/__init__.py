"""The catalogue of event types as merchants read it: what there is to subscribe to, and what arrives then."""
