//! The client against a real listener that answers what a test says.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// Answers every connection with `answer` once a request's head has come; what was asked comes back when it is stopped.
struct Server {
    at: SocketAddr,
    seen: tokio::sync::mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "a listener of the test's own")]
async fn server(answer: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (tell, seen) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            tell.send(String::from_utf8(head).unwrap()).unwrap();
            // The client may have hung up already.
            _ = stream.write_all(answer.as_bytes()).await;
            open.push(stream);
        }
    });
    Server { at, seen, task }
}

fn client(networks: &[&str]) -> Client {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    Client::new(&OutgoingSettings { networks, ..OutgoingSettings::default() }).unwrap()
}

fn get(url: &OutgoingUrl) -> Call<'_> {
    Call {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        body: Vec::new(),
        timeout: LIMIT,
        answer: AnswerBody::UpTo(10),
    }
}

fn url(text: &str) -> OutgoingUrl {
    text.parse().unwrap()
}

#[tokio::test]
async fn an_answer_comes_back_whatever_its_status_and_we_say_who_we_are() {
    let mut server = server("HTTP/1.1 418 No\r\nContent-Length: 5\r\nX-Y: z\r\n\r\nhello").await;
    let url = url(&format!("http://{}/a?b=c", server.at));
    let answer = client(&[]).call(get(&url)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (418, &b"hello"[..]));
    assert_eq!(answer.headers["x-y"], "z");
    let head = server.seen.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n"), "{head}");
    assert!(head.contains(concat!("user-agent: postern/", env!("CARGO_PKG_VERSION"), "\r\n")), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let elsewhere = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let text = format!("HTTP/1.1 307 Go\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", elsewhere.at);
    let here = server(Box::leak(text.into_boxed_str())).await;
    let answer = client(&[]).call(get(&url(&format!("http://{}", here.at)))).await.unwrap();
    assert_eq!(answer.status.as_u16(), 307);
    assert!(elsewhere.seen.is_empty());
}

#[tokio::test]
async fn an_address_outside_the_networks_is_not_called_however_the_url_names_it() {
    let server = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = server.at.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"] {
        let url = url(&format!("http://{host}:{port}/s3cret"));
        let refused = client(&["10.0.0.0/8", "2001:db8::/32"]).call(get(&url)).await.map(|_| ());
        assert_eq!(refused, Err(CallError::NotAllowed), "{host}");
    }
    assert!(server.seen.is_empty());
    for host in ["127.0.0.1", "localhost", "0x7f.1"] {
        let url = url(&format!("http://{host}:{port}/"));
        assert!(client(&["127.0.0.0/8"]).call(get(&url)).await.is_ok(), "{host}");
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_whether_its_length_is_told_or_not() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
    ] {
        let server = server(answer).await;
        let url = url(&format!("http://{}", server.at));
        let refused = client(&[]).call(get(&url)).await.map(|_| ());
        assert_eq!(refused, Err(CallError::TooLarge(10)));
        let unwanted = Call { answer: AnswerBody::Unwanted, ..get(&url) };
        let answer = client(&[]).call(unwanted).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    }
}

#[tokio::test]
async fn the_time_limit_holds_for_the_head_and_for_the_body() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello"] {
        let server = server(answer).await;
        let url = url(&format!("http://{}", server.at));
        let call = Call { timeout: Duration::from_millis(100), answer: AnswerBody::UpTo(100), ..get(&url) };
        assert_eq!(client(&[]).call(call).await.map(|_| ()), Err(CallError::TimedOut));
    }
}

#[tokio::test]
async fn what_went_wrong_is_told_without_the_url() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let not_http = server("220 mail.example ESMTP s3cret\r\n\r\n").await;
    let no_tls = server("").await;
    let garbled = server("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\ns3cret").await;
    for (base, connects) in [
        (format!("http://{closed}"), false),
        ("http://nobody.invalid".to_owned(), false),
        (format!("https://{closed}"), false),
        (format!("http://{}", not_http.at), true),
        (format!("http://{}", garbled.at), true),
    ] {
        let url = url(&format!("{base}/s3cret?s3cret=s3cret"));
        let error = client(&[]).call(get(&url)).await.err().unwrap();
        assert_eq!(matches!(error, CallError::Broken(_)), connects, "{base}: {error:?}");
        assert_eq!(matches!(error, CallError::CannotConnect(_)), !connects, "{base}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
    // Nobody answers the handshake: that is the time for connecting.
    let impatient = OutgoingSettings {
        connect_timeout: crate::domain::quantity::HumanDuration(Duration::from_millis(100)),
        ..OutgoingSettings::default()
    };
    let url = url(&format!("https://{}/s3cret", no_tls.at));
    let error = Client::new(&impatient).unwrap().call(get(&url)).await.err().unwrap();
    assert!(matches!(error, CallError::CannotConnect(_)), "{error:?}");
}
