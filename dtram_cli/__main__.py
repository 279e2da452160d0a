"""`python -m dtram_cli`, the same as `dtram`."""

from . import main

main()
