"""Deliveries as merchants read them: lists, one by its id, and every request of it as it was sent."""

from daemon.deliveries.detail import Detail, detail
from daemon.deliveries.finding import SearchUnfinished, find, search
from daemon.deliveries.listing import DeliveryPage, Filter, Item, page
from daemon.deliveries.rebuilding import Sent

__all__ = ["DeliveryPage", "Detail", "Filter", "Item", "SearchUnfinished", "Sent", "detail", "find", "page", "search"]
