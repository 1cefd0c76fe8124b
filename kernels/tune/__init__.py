"""Choosing tiles: the tables that ship, the sweep that makes them, and the compile gate that checks them."""
