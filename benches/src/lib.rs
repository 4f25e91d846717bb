//! Benchmarks live in `benches/`, programs that measure one thing from outside in `examples/`; this library is empty.
