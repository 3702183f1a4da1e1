//! Tests of the DNS client against servers that lie, on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use postern_signer::dns::Expected;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const TEXT: &str = "v=DKIM1; k=rsa; p=QUJD";
const OWNER: &str = "s._domainkey.a.example";

/// A server on one UDP and TCP port; `answers` gives the datagrams or the message for a question.
async fn serve(answers: fn(&Message) -> Vec<Vec<u8>>) -> SocketAddr {
    let (addr, udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let addr = udp.local_addr().expect("has one");
        // Somebody else may have the same port of TCP.
        if let Ok(tcp) = TcpListener::bind(addr).await {
            break (addr, udp, tcp);
        }
    };
    tokio::spawn(async move {
        let mut datagram = [0; 2_048];
        while let Ok((length, client)) = udp.recv_from(&mut datagram).await {
            let question = Message::from_vec(&datagram[..length]).expect("a question");
            for answer in answers(&question) {
                udp.send_to(&answer, client).await.expect("is sent");
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut question = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
            stream.read_exact(&mut question).await.expect("a question");
            let question = Message::from_vec(&question).expect("a question");
            for answer in answers(&question) {
                let length = u16::try_from(answer.len()).expect("fits");
                stream.write_u16(length).await.expect("is sent");
                stream.write_all(&answer).await.expect("is sent");
            }
        }
    });
    addr
}

fn answer_to(question: &Message) -> Message {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.authoritative = true;
    answer.signature = None;
    answer
}

fn with_txt(mut answer: Message, text: &str) -> Message {
    let owner = Name::from_ascii(format!("{OWNER}.")).expect("is one");
    let txt = RData::TXT(TXT::new(vec![text.to_owned()]));
    answer.add_answer(Record::from_rdata(owner, 60, txt));
    answer
}

fn wire(answer: &Message) -> Vec<u8> {
    answer.to_vec().expect("is a message")
}

async fn look(server: SocketAddr) -> Sighting {
    let options = LookOptions {
        resolvers: Vec::new(),
        authoritative: vec![server],
        timeout: Duration::from_millis(500),
        attempts: 1,
    };
    let expected = Expected::new(TEXT).expect("is a record");
    let mut look = Looker::new(options).look(OWNER, &expected).await;
    look.sightings.remove(0).sighting
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work);
}

#[test]
fn a_forged_datagram_does_not_stand_in_for_the_answer() {
    run(async {
        let server = serve(|question| {
            let mut other_id = with_txt(answer_to(question), "v=DKIM1; p=");
            other_id.metadata.id = question.metadata.id.wrapping_add(1);
            let mut other_name = with_txt(answer_to(question), "v=DKIM1; p=");
            other_name.queries[0].set_query_type(RecordType::MX);
            let right = with_txt(answer_to(question), TEXT);
            let echo = wire(question);
            vec![b"nonsense".to_vec(), echo, wire(&other_id), wire(&other_name), wire(&right)]
        });
        assert_eq!(look(server.await).await, Sighting::Seen { ttl_s: 60 });
    });
}

#[test]
fn an_answer_that_says_nothing_is_none() {
    run(async {
        // Truncated over UDP and again over TCP, without records.
        let truncated = serve(|question| {
            let mut answer = answer_to(question);
            answer.metadata.truncation = true;
            vec![wire(&answer)]
        });
        let missing = Sighting::Missing { negative_ttl_s: None };
        assert_eq!(look(truncated.await).await, missing);
        let nonsense = serve(|_| vec![b"nonsense".to_vec()]);
        assert_eq!(look(nonsense.await).await, Sighting::Timeout);
        let code = serve(|question| {
            let mut answer = answer_to(question);
            answer.metadata.response_code = ResponseCode::FormErr;
            vec![wire(&answer)]
        });
        assert!(matches!(look(code.await).await, Sighting::Garbled(_)));
        let elsewhere = serve(|question| {
            let mut answer = with_txt(answer_to(question), TEXT);
            answer.answers[0].name = Name::from_ascii("b.example.").expect("is one");
            vec![wire(&answer)]
        });
        assert_eq!(look(elsewhere.await).await, missing);
    });
}

#[test]
fn delegations_that_go_in_a_circle_end() {
    run(async {
        let circle = serve(|question| {
            let owner = Name::from_ascii(format!("{OWNER}.")).expect("is one");
            let mut answer = answer_to(question);
            let cname = hickory_proto::rr::rdata::CNAME(owner.clone());
            answer.add_answer(Record::from_rdata(owner, 60, RData::CNAME(cname)));
            vec![wire(&answer)]
        });
        assert_eq!(look(circle.await).await, Sighting::Missing { negative_ttl_s: None });
    });
}

#[test]
fn an_update_that_is_answered_without_a_signature_has_not_happened() {
    run(async {
        let server = serve(|question| {
            let mut answer = answer_to(question);
            let zone = Name::from_ascii("a.example.").expect("is one");
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, 1);
            answer.add_authority(Record::from_rdata(zone, 60, RData::SOA(soa)));
            vec![wire(&answer)]
        });
        let key = TsigKey::new("k", TsigAlgorithm::HmacSha256, vec![7; 32]);
        let updater = Updater::new(UpdateOptions {
            server: server.await,
            key: key.unwrap_or_else(|why| panic!("{why}")),
            timeout: Duration::from_millis(500),
            attempts: 1,
        });
        let outcome = updater.update(OWNER, 60, Change::Add { text: TEXT }).await;
        assert_eq!(outcome, Err(UpdateError::Unsigned));
    });
}
