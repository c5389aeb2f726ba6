"""The OpenAPI 3.1 document, made of what the endpoints declare: there is no second truth to keep up with the first."""
