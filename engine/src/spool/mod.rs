//! The durable log behind one narrow interface: append, settle, recover, health.
