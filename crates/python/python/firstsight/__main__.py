"""`python -m firstsight`."""

from . import main

main()
