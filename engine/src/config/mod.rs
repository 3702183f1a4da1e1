//! TOML to a typed, validated, immutable `Snapshot`; every error at once, with file, line and caret.
