//! Loopback addresses that nobody else uses.
//!
//! All of 127/8 is this machine, so each listener of a test gets an address of its own, made of the
//! process id and a counter, with a fixed port. Binding to port 0 first and handing the number to a
//! child process would race with every other test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address that no other call in this process, and no likely other process, returns.
pub fn own() -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = NEXT.fetch_add(1, Ordering::Relaxed) % 253 + 1;
    let last = u8::try_from(count).expect("1 to 253");
    // 127.0 and 127.1 are left to whatever else runs here.
    IpAddr::V4(Ipv4Addr::new(127, high.max(2), low, last))
}

/// An own address with a port.
pub fn own_port(port: u16) -> SocketAddr {
    SocketAddr::new(own(), port)
}

/// Waits until something listens at `addr`, at most `seconds`; false when nothing does.
pub fn wait_until_open(addr: SocketAddr, seconds: u64) -> bool {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while std::time::Instant::now() < deadline {
        if std::net::TcpStream::connect(addr).is_ok() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    false
}
