//! `openssl s_client`: TLS as another library sees it.

use std::process::Command;

use postern_tests::relay::Setup;
use postern_tests::sink::Sink;
use postern_tests::tool::{self, Ran};

fn s_client(addr: std::net::SocketAddr, options: &[&str]) -> Ran {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &addr.to_string(), "-crlf", "-ign_eof"]).args(options);
    tool::run(&mut client, b"EHLO client.example\nQUIT\n", 30)
}

#[test]
fn tls_is_modern_in_both_ports() {
    if !tool::have(&["openssl"]) {
        return;
    }
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let clear: &[&str] = &["-starttls", "smtp"];
    for (addr, how) in [(relay.addr, clear), (relay.addr_tls, &[])] {
        for version in ["-tls1_3", "-tls1_2"] {
            let ran = s_client(addr, &[how, &[version]].concat());
            let name = if version == "-tls1_3" { "TLSv1.3" } else { "TLSv1.2" };
            assert!(ran.out.contains(name) && ran.out.contains("250 "), "{version}: {}", ran.out);
            assert!(ran.out.contains("AUTH"), "AUTH is offered inside TLS: {}", ran.out);
        }
        for old in [
            &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
            &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "aNULL@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "AES256-SHA:AES128-GCM-SHA256"],
        ] {
            let ran = s_client(addr, &[how, old].concat());
            assert!(!ran.out.contains("250 "), "{old:?} is taken: {}", ran.out);
        }
    }
}

#[test]
fn sessions_resume() {
    if !tool::have(&["openssl"]) {
        return;
    }
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let file = relay.home().join("session.pem");
    let path = file.to_string_lossy().into_owned();
    s_client(relay.addr_tls, &["-tls1_3", "-sess_out", &path]);
    assert!(file.is_file(), "no session ticket");
    let ran = s_client(relay.addr_tls, &["-tls1_3", "-sess_in", &path]);
    assert!(ran.out.contains("Reused, TLSv1.3"), "{}", ran.out);
    assert!(!ran.out.contains("Max Early Data: 1"), "early data can be replayed: {}", ran.out);
}
