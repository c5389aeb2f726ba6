"""Why something failed, waits or was not sent, in sentences for merchants and support."""
