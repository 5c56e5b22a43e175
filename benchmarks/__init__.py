"""What the README's figures come from: one command each, a table on the screen and --json FILE."""
