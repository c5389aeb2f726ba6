"""One webhook request: which targets are allowed, how the body is rendered, and how the request is signed."""
