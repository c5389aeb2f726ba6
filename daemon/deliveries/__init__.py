"""Deliveries as merchants read them: lists, one delivery by its id, and each of its requests as it was sent."""

from daemon.deliveries.detail import DeliveryDetail, SearchUnfinished, detail, find, search
from daemon.deliveries.listing import DeliveryFilter, DeliveryPage, ListedDelivery, page
from daemon.deliveries.sent_requests import SentRequest

__all__ = [
    "DeliveryDetail",
    "DeliveryFilter",
    "DeliveryPage",
    "ListedDelivery",
    "SearchUnfinished",
    "SentRequest",
    "detail",
    "find",
    "page",
    "search",
]
