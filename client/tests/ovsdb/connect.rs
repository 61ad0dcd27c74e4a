//! What a failed or lost connection says, and that probes are answered; the server is the test where ovsdb-server would not do it.

use std::fs;

use nonnet_client::{Address, Connection, Lost};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
};

use crate::server::within;

async fn refusal(address: &Address) -> String {
    Connection::connect(address).await.unwrap_err().to_string()
}

#[tokio::test]
async fn missing_socket_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    assert_eq!(
        refusal(&Address::Unix(path.clone())).await,
        format!(
            "{}: there is no such socket; is the server running, and is this the path it printed when it started?",
            path.display()
        )
    );
}

#[tokio::test]
async fn socket_without_a_server_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(
        refusal(&Address::Unix(path.clone())).await,
        format!("unix:{}: no server is listening there", path.display())
    );
}

#[tokio::test]
async fn file_that_is_no_socket_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    fs::write(&path, "").unwrap();
    assert_eq!(
        refusal(&Address::Unix(path.clone())).await,
        format!("{}: is not a socket", path.display())
    );
}

#[tokio::test]
async fn port_without_a_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(
        refusal(&Address::Tcp(address)).await,
        format!("tcp:{address}: no server is listening there")
    );
}

/// A connection, and its other end.
async fn pair() -> (Connection, UnixStream, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let address = Address::Unix(path);
    let (connection, server) = tokio::join!(Connection::connect(&address), listener.accept());
    (connection.unwrap(), server.unwrap().0, directory)
}

#[tokio::test]
async fn probe_of_the_server_is_answered() {
    let (_connection, mut server, _directory) = pair().await;
    server
        .write_all(br#"{"id":"echo","method":"echo","params":[]}"#)
        .await
        .unwrap();
    let reply = json!({"id": "echo", "result": [], "error": null}).to_string();
    let mut buffer = vec![0; reply.len()];
    within(server.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(String::from_utf8(buffer).unwrap(), reply);
}

#[tokio::test]
async fn explanation_of_a_closing_server_is_passed_on() {
    let (connection, mut server, _directory) = pair().await;
    server
        .write_all(
            b"{\"id\":null,\"result\":null,\"error\":{\"error\":\"resources exhausted\",\"details\":\"full\"}}\n",
        )
        .await
        .unwrap();
    drop(server);
    let lost = within(connection.lost()).await;
    assert_eq!(
        lost.to_string(),
        "the server closed the connection: resources exhausted: full"
    );
    let error = within(connection.list_dbs()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("list_dbs: the connection to unix:")
            && error.ends_with("is lost: the server closed the connection: resources exhausted: full"),
        "{error}"
    );
}

#[tokio::test]
async fn calls_under_way_hear_that_the_server_has_gone() {
    let (connection, server, _directory) = pair().await;
    let (answer, ()) = tokio::join!(within(connection.list_dbs()), async { drop(server) });
    assert!(answer.unwrap_err().is_lost());
    assert_eq!(connection.notifications().next().await, Err(Lost::Closed));
}

#[tokio::test]
async fn reply_cut_at_every_byte_is_understood() {
    let (connection, mut server, _directory) = pair().await;
    let serve = async {
        let mut buffer = vec![0; 1000];
        let _ = server.read(&mut buffer).await.unwrap();
        for byte in b"{\"id\":1,\"error\":null,\"result\":[\"a\",\"b\"]}\n" {
            server.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        server
    };
    let (names, _server) = tokio::join!(within(connection.list_dbs()), serve);
    assert_eq!(names.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn server_that_is_no_ovsdb_is_told() {
    let (connection, mut server, _directory) = pair().await;
    server.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
    let lost = within(connection.lost()).await;
    assert!(
        lost.to_string()
            .starts_with("the server sent what is not OVSDB: byte 0: "),
        "{lost}"
    );
}

#[tokio::test]
async fn last_clone_closes_the_connection() {
    let (connection, mut server, _directory) = pair().await;
    let clone = connection.clone();
    drop(connection);
    clone.notify("hello", &[]).await.unwrap();
    let mut buffer = [0; 1];
    within(server.read_exact(&mut buffer)).await.unwrap();
    drop(clone);
    let mut rest = Vec::new();
    within(server.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silent_tcp_server_is_probed_and_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let (connection, accepted) = tokio::join!(Connection::connect(&address), listener.accept());
    let (connection, (mut server, _)) = (connection.unwrap(), accepted.unwrap());
    let probe = json!({"id": "echo", "method": "echo", "params": []}).to_string();
    let mut buffer = vec![0; probe.len()];
    for _ in 0..2 {
        server.read_exact(&mut buffer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer), probe);
        server
            .write_all(br#"{"id":"echo","result":[],"error":null}"#)
            .await
            .unwrap();
    }
    assert_eq!(connection.lost().await, Lost::Silent { seconds: 10 });
}

#[tokio::test]
async fn crowded_socket_is_tried_until_there_is_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("sock"));
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(directory.path().join("sock")).unwrap();
    let listener = socket.listen(1).unwrap();
    let connecting = async {
        let mut connections = Vec::new();
        for _ in 0..10 {
            connections.push(Connection::connect(&address).await.unwrap());
        }
        connections
    };
    let accepting = async {
        tokio::task::yield_now().await;
        let mut accepted = Vec::new();
        for _ in 0..10 {
            accepted.push(listener.accept().await.unwrap());
        }
        accepted
    };
    let (connections, _accepted) = tokio::join!(within(connecting), within(accepting));
    assert_eq!(connections.len(), 10);
}
