//! Outbound sessions and pools, outcomes per recipient, retries.
