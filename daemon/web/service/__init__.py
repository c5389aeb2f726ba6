"""What the API and the dashboard both ask: each question once, beneath both of them."""
