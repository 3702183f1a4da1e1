//! Tables over whole dialogues.

use std::time::Instant;

use super::*;

mod dialogue;

use dialogue::Dialogue;

#[test]
fn a_message() {
    let mut d = Dialogue::plain();
    d.check("", "220 mx.example ESMTP Postern\r\n");
    d.check("HELO a\r\n", "250 mx.example\r\n");
    d.check("MAIL FROM:<a@b.example>\r\n", "250 2.1.0 Sender OK\r\n");
    d.check("RCPT TO:<c@d.example>\r\n", "250 2.1.5 Recipient OK\r\n");
    d.check("DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n");
    d.check("Subject: x\r\n\r\n..dot\r\n.\r\n", "250 2.0.0 Message accepted\r\n");
    d.check("QUIT\r\n", "221 2.0.0 Bye\r\n");
    assert_eq!(d.messages, ["Subject: x\r\n\r\n..dot\r\n"]);
    assert!(d.server.is_closed());
}
