"""Hooks: how the product sees sessions in applications that do not report them."""
