//! One pinned data-plane thread: event loop, sessions, timers, counters.
