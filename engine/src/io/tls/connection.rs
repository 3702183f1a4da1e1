//! One connection, with or without TLS: what a session task holds.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use super::{Chunk, TlsInfo, TlsStream};
use crate::io::Stream;

/// A stream, plain or encrypted, with one set of operations.
#[derive(Debug)]
pub enum Connection {
    /// Bytes as they are.
    Plain(Stream),
    /// Bytes through a TLS session.
    Tls(Box<TlsStream>),
}

impl Connection {
    /// Waits for bytes. Empty means that the peer will send no more. Dropping the future loses
    /// nothing.
    pub async fn receive(&mut self) -> io::Result<Chunk> {
        match self {
            Self::Plain(stream) => Ok(stream.receive().await?.into()),
            // Boxed: a plaintext session should not carry the room for it.
            Self::Tls(tls) => Box::pin(tls.receive()).await,
        }
    }

    /// Sends all of `parts`, in order.
    pub async fn send(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.send(parts).await,
            Self::Tls(tls) => Box::pin(tls.send(parts)).await,
        }
    }

    /// Closes the connection; a TLS session says so first.
    pub async fn close(self) {
        match self {
            Self::Plain(stream) => stream.close().await,
            Self::Tls(tls) => tls.close().await,
        }
    }

    /// Answers a TLS handshake on this connection (server's side of STARTTLS). Fails if there is TLS
    /// on it already: it is never wrapped twice.
    pub async fn accept_tls(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let stream = self.into_plain()?;
        Ok(Self::Tls(Box::new(TlsStream::accept(stream, config).await?)))
    }

    /// Opens a TLS handshake on this connection (client's side of STARTTLS). Fails if there is TLS
    /// on it already.
    pub async fn connect_tls(
        self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let stream = self.into_plain()?;
        Ok(Self::Tls(Box::new(TlsStream::connect(stream, config, name).await?)))
    }

    fn into_plain(self) -> io::Result<Stream> {
        match self {
            Self::Plain(stream) => Ok(stream),
            Self::Tls(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "there is TLS on this connection already",
            )),
        }
    }

    /// What TLS agreed on; `None` on a plain connection.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.info()),
        }
    }

    /// Whether what is sent here is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> SocketAddr {
        match self {
            Self::Plain(stream) => stream.peer_addr(),
            Self::Tls(tls) => tls.peer_addr(),
        }
    }

    /// Our address.
    pub fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Plain(stream) => stream.local_addr(),
            Self::Tls(tls) => tls.local_addr(),
        }
    }
}
