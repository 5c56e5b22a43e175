"""`python -m microseg` is `microseg`."""

from microseg.cli.main import main

main()
