"""What somebody asks for, checked as a whole: a route, its headers, a token and its scope."""
