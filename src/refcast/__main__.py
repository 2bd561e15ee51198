"""`python -m refcast`, as the hook starts the worker."""

from refcast.cli import main

main()
