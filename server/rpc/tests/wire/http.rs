//! An HTTP client is told what this socket is.

use tokio::{io::AsyncWriteExt, task::yield_now};

use crate::fixture::{Server, read_to_end, write};

async fn answer_to(pieces: &[&str]) -> (String, String) {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    for piece in pieces {
        write(&mut client, piece).await;
        yield_now().await;
    }
    let answer = read_to_end(&mut client).await;
    server.closed().await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.replace(&server.path().display().to_string(), "SOCK"),
        body.replace(&server.path().display().to_string(), "SOCK"),
    )
}

#[tokio::test]
async fn get_is_answered_with_an_example_that_works() {
    let (head, body) = answer_to(&["G", "E", "T / HTTP/1.1\r\nHost: x\r\n\r\n"]).await;
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    assert_eq!(
        body,
        "This is the OVSDB socket of nonnetd (punix:SOCK). It speaks JSON-RPC 1.0 (RFC 7047), not HTTP.\n\
         Try this:\n  echo '{\"method\":\"list_dbs\",\"params\":[],\"id\":1}' | nc -N -U SOCK\n"
    );
}

#[tokio::test]
async fn post_with_a_body_is_answered_too() {
    let body = "x".repeat(100_000);
    let request = format!("POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{body}");
    assert!(answer_to(&[&request]).await.0.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let (head, body) = answer_to(&["HEAD / HTTP/1.1\r\n\r\n"]).await;
    assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("Content-Length: "));
    assert_eq!(body, "");
}

#[tokio::test]
async fn content_length_is_that_of_the_body() {
    let mut server = Server::start();
    let (mut client, _) = server.connect().await;
    write(&mut client, "OPTIONS * HTTP/1.1\r\n\r\n").await;
    client.shutdown().await.unwrap();
    let answer = read_to_end(&mut client).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
}
