//! Tests that need more than one module: both sessions as a pair, and the parser's oracle.

mod oracle;
mod pair;
