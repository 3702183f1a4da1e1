//! The crash oracle: whatever ends the relay or fails below it, every acknowledged message arrives
//! whole, and no refused one does.

mod faults;
mod kill;
mod power;
