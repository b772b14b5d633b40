"""What houseroom costs, measured beside its field in one run. ``./dev bench``; see benchmarks/README.md."""
