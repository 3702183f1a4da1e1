//! Tables over whole dialogues, one file a subject.

use std::sync::Arc;
use std::time::Instant;

use super::*;

mod auth;
mod commands;
mod content;
mod dialogue;
mod limits;
mod tls;

use dialogue::{Dialogue, options};

#[test]
fn an_idle_session_is_small_and_owns_no_buffer() {
    assert!(size_of::<Server>() <= 400, "{} bytes", size_of::<Server>());
    let mut d = Dialogue::greeted(options());
    d.cut = 3;
    d.say(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n");
    assert_eq!(d.messages.len(), 1);
    assert_eq!(d.server.receive(b"", d.now).consumed, 0);
    assert_eq!(d.server.line.capacity(), 0);
    assert!(!d.server.has_output());
}
