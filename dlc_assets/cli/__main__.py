"""`python -m dlc_assets.cli`."""

from dlc_assets.cli import main

if __name__ == "__main__":
    main()
