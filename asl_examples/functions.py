"""All functions of the examples, for a function host: `STEPWELL_FUNCTION_MODULES=asl_examples.functions`."""

from __future__ import annotations

from asl_examples.batch_map.functions import add_up_batches, book_invoices
from asl_examples.order_processing.functions import book_shipment, price_order
from asl_examples.parallel_enrichment.functions import credit_score, find_region

__all__ = ["add_up_batches", "book_invoices", "book_shipment", "credit_score", "find_region", "price_order"]
