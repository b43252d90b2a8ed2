"""The command `coatcheck`, as `python -m coatcheck`."""

from coatcheck.cli import run

if __name__ == "__main__":
    run()
