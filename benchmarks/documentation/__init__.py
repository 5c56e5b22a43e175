"""Builds the documentation: reference pages from the code, tables from measured figures, pages from `microseg/docs`."""
