//! Making sockets: the options that both drivers set, in one place.
//!
//! Listeners share their port among shards (`SO_REUSEPORT`: one queue per core) and set `TCP_NODELAY`,
//! which accepted sockets inherit: replies are small and each is one send. Outgoing sockets set the
//! same. Nothing here waits.
#![allow(unsafe_code, reason = "one socket option that neither socket2 nor rustix has")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections the kernel may hold finished but not yet accepted, per listener. The kernel caps it at
/// `net.core.somaxconn` (4096 by default).
const LISTEN_BACKLOG: i32 = 4096;

/// Whether calls on the socket return `EAGAIN` instead of waiting. The ring wants waiting sockets: it
/// takes the flag as "do not wait for me" and would complete with `EAGAIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Blocking,
    NonBlocking,
}

/// Binds and listens.
pub(super) fn listen(addr: SocketAddr, mode: Mode) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(mode == Mode::NonBlocking)?;
    socket.bind(&addr.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket)
}

/// Makes an unconnected socket for `addr`, bound to `source` if given.
pub(super) fn outgoing(addr: SocketAddr, source: Option<IpAddr>, mode: Mode) -> io::Result<Socket> {
    if source.is_some_and(|source| source.is_ipv4() != addr.is_ipv4()) {
        let reason = "the source address is of another family than the destination";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(mode == Mode::NonBlocking)?;
    if let Some(source) = source {
        // The port is chosen at connect time, when the destination is known: otherwise one source
        // address could have only as many connections in total as there are ports.
        drop(bind_address_no_port(&socket));
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// The socket's own address, an IPv4-mapped one shown as IPv4.
pub(super) fn local_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    SockRef::from(&socket).local_addr()?.as_socket().map(canonical).ok_or_else(not_ip)
}

/// The peer's address, as the kernel has it.
pub(super) fn peer_addr(socket: impl AsFd) -> io::Result<SocketAddr> {
    SockRef::from(&socket).peer_addr()?.as_socket().ok_or_else(not_ip)
}

/// Sets `IP_BIND_ADDRESS_NO_PORT` (ip(7)), for both families.
fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let bytes = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel reads `bytes` bytes at `on`, which lives here.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Shows `::ffff:192.0.2.1` as `192.0.2.1`, so that networks in the configuration match on a
/// dual-stack listener too.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn not_ip() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the socket's address is not an IP address")
}
