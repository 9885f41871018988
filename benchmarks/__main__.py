"""`python -m benchmarks [small|100k|1m]`."""

from benchmarks.flow import main

if __name__ == "__main__":
    main()
