"""The shop: three tables kept as mirrors in the warehouse, with no code at all."""

from pipelines.tables import mirror

customers = mirror("shop.customers")
orders = mirror("shop.orders")
order_items = mirror("shop.order_items")
