"""Example of mirrors: three tables of the shop, mirrored into the warehouse without code."""

from dagster_binlogsync.tables import mirror

customers = mirror("shop.customers")
orders = mirror("shop.orders")
order_items = mirror("shop.order_items")
