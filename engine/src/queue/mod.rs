//! Lanes, due times, retry schedule and expiry over the spool; pure.
