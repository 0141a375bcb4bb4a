"""One module a loader, with the interpreter that has it; see :mod:`benchmarks.conformance.adapter`."""
