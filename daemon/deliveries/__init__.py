"""Deliveries as merchants read them: lists, one by its id, and every request of it as it was sent."""

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
