//! Where a recipient's mail goes next: configured smarthosts.
