"""The dashboard: pages for merchants and operators, rendered here, over the commands and queries that the API uses.

routing      which path leads to which page: the table of contents
webhooks/    what a merchant does: list, form, one webhook, its key, tests, replays, history
logs/        what was sent, and what happened: deliveries, events, the live tail
operator/    tenants, tokens, event types, status
pages        what all pages have in common: access, context of commands, errors as pages
rendering    templates with what each of them may use; assets are served by their digest
typed        what was typed into a form, and `form_errors` what is wrong with it

Every page works without scripts. What page.js adds is declared by `data-` attributes in the templates.
"""
