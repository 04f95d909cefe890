"""Small servers that stand in for the services the examples call: payments, approvals, reports and a chat model."""
