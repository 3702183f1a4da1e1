//! The `postern` command line, one file a subcommand.
