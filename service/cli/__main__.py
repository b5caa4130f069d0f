"""`python -m service.cli`: the same as `clsp`."""

from service.cli.main import main

main()
