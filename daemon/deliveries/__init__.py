"""Deliveries as merchants read them: lists, one by its id, and every request of it as it was sent."""

from daemon.deliveries.detail import Detail, SearchUnfinished, detail, find, search
from daemon.deliveries.listing import DeliveryPage, Filter, Item, page
from daemon.deliveries.sent_requests import Sent

__all__ = ["DeliveryPage", "Detail", "Filter", "Item", "SearchUnfinished", "Sent", "detail", "find", "page", "search"]
