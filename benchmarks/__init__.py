"""Where the documentation's figures come from: one command each, which prints a table and writes --json FILE."""
