"""The dashboard: HTML pages for merchants and operators. They use the same commands and queries as the API.

routing           which path leads to which page: the table of contents
webhooks/         a merchant's webhooks: the list, one webhook, its key, its history
webhook_form/     the form that creates and edits a webhook, with its preview
webhook_actions/  disable, enable, delete, rotate the key, send sample events, replay
logs/             deliveries, events, the live tail
catalogue/        the event types, as merchants read them
operator/         tenants, tokens, event types, status
pages             what all pages share: access, the context of commands, problems as pages
rendering         the templates' context; `assets` serves style, script and icon
form_data         the fields of a submitted form, and the errors to show beside them
text              numbers, dates, JSON and sentences, for reading

Each folder of pages has its templates in the folder of the same name below templates/. Every page works without
scripts. Templates declare by `data-` attributes what page.js adds.
"""
