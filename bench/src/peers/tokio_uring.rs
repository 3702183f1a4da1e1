//! The same sink around tokio-uring 0.5: one ring, single-shot operations, a buffer a connection.

#![allow(clippy::print_stdout, reason = "the parent reads it")]

use std::cell::Cell;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::rig::sink::{Counts, Session, session_options};

/// The name in every line of output.
pub const NAME: &str = "tokio-uring 0.5";

/// Submission queue length, as our own driver's.
const RING_ENTRIES: u32 = 1024;
/// Completion queue length, as our own driver's.
const COMPLETION_ENTRIES: u32 = 4096;
const BACKLOG: i32 = 4096;

/// Serves until `questions` ends; `buffer` is the receive buffer of each connection.
///
/// # Errors
/// When the ring or the address is refused.
pub fn serve(buffer: usize, mut questions: mpsc::Receiver<()>) -> io::Result<()> {
    let mut ring = tokio_uring::uring_builder();
    // The one flag of the newer ones that it can be used with, and gains by.
    ring.setup_coop_taskrun().setup_cqsize(COMPLETION_ENTRIES);
    tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&ring).start(async move {
        let listener = StdListener::bind(("127.0.0.1", 0))?;
        rustix::net::listen(&listener, BACKLOG)?;
        // Inherited by what it accepts.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        let addr = listener.local_addr()?;
        let listener = TcpListener::from_std(listener);
        let messages = Rc::new(Cell::new(0));
        let counted = Rc::clone(&messages);
        tokio_uring::spawn(async move {
            let options = session_options();
            while let Ok((stream, _)) = listener.accept().await {
                let session = Session::new(Arc::clone(&options), Rc::clone(&counted));
                tokio_uring::spawn(run(session, stream, buffer));
            }
        });
        println!("{addr}");
        while questions.recv().await.is_some() {
            let counts = Counts { messages: messages.get(), system_calls: 0 };
            println!("{}", serde_json::to_string(&counts)?);
        }
        Ok(())
    })
}

async fn run(mut session: Session, stream: TcpStream, buffer: usize) {
    // How a client goes away is its own affair.
    drop(converse(&mut session, &stream, buffer).await);
}

async fn converse(session: &mut Session, stream: &TcpStream, bytes: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(bytes);
    loop {
        let replies = session.replies();
        if !replies.is_empty() {
            stream.write_all(replies).await.0?;
        }
        if session.is_over() {
            return Ok(());
        }
        let (received, filled) = stream.read(buffer).await;
        buffer = filled;
        let count = received?;
        if count == 0 {
            return Ok(());
        }
        let mut at = 0;
        while !session.digest(&buffer[..count], &mut at) {
            stream.write_all(session.replies()).await.0?;
        }
    }
}
