"""One webhook request: where it may go, its body, its headers, its signatures."""
