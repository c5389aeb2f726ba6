"""How a page is written: templates and their filters, texts, periods, links to other pages of a list."""
