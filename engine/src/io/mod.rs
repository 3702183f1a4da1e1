//! How bytes move: one small interface, two drivers behind it, TLS over both.
