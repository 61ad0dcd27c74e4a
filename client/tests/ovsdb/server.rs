//! An `ovsdb-server` of our own, and one with methods taken away.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nonnet_client::{Address, Connection};
use nonnet_schema::Scanner;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const DATABASE: &str = "Things";

pub(crate) struct Server {
    pub(crate) directory: TempDir,
    child: Option<Child>,
}

impl Server {
    /// A standalone server.
    pub(crate) async fn start() -> Self {
        let server = Self {
            directory: tempfile::tempdir().unwrap(),
            child: None,
        };
        server.tool(&["create", "db", "schema"]);
        server.running().await
    }

    /// A cluster of one: it names its transactions, and remembers them.
    pub(crate) async fn start_cluster() -> Self {
        let server = Self {
            directory: tempfile::tempdir().unwrap(),
            child: None,
        };
        let raft = format!("unix:{}", server.path("raft").display());
        server.tool(&["create-cluster", "db", "schema", &raft]);
        server.running().await
    }

    async fn running(mut self) -> Self {
        self.run().await;
        self
    }

    fn tool(&self, arguments: &[&str]) {
        fs::write(self.path("schema"), schema().to_string()).unwrap();
        let status = Command::new("ovsdb-tool")
            .args(arguments)
            .current_dir(self.directory.path())
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub(crate) async fn run(&mut self) {
        let child = Command::new("/usr/sbin/ovsdb-server")
            .args([
                "--remote=punix:sock",
                "--unixctl=ctl",
                "--no-chdir",
                "-vconsole:off",
                "db",
            ])
            .env("OVS_RUNDIR", self.directory.path())
            .current_dir(self.directory.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let ready = async {
            loop {
                if let Ok(connection) = Connection::connect(&self.address()).await
                    && connection.get_schema(DATABASE).await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ready).await.unwrap();
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn control(&self, command: &str) {
        let status = Command::new("ovs-appctl")
            .arg("-t")
            .arg(self.path("ctl"))
            .arg(command)
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.path("sock"))
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::connect(&self.address()).await.unwrap()
    }

    /// The address of a proxy that answers "unknown method" to this method.
    pub(crate) fn without(&self, method: &'static str) -> Address {
        let path = self.path("proxy");
        let listener = UnixListener::bind(&path).unwrap();
        let behind = Arc::new(self.path("sock"));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, Arc::clone(&behind), method));
            }
        });
        Address::Unix(path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn relay(client: UnixStream, behind: Arc<PathBuf>, method: &'static str) {
    let server = UnixStream::connect(&*behind as &Path).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (refuse, mut refused) = tokio::sync::mpsc::channel::<String>(16);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        loop {
            tokio::select! {
                Some(refusal) = refused.recv() => to_client.write_all(refusal.as_bytes()).await.unwrap(),
                Ok(bytes) = from_server.read(&mut buffer) => {
                    if bytes == 0 || to_client.write_all(&buffer[..bytes]).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    let mut scanner = Scanner::new();
    let mut buffer = vec![0; 65536];
    while let Ok(bytes @ 1..) = from_client.read(&mut buffer).await {
        scanner.push(&buffer[..bytes]);
        while let Some(frame) = scanner.next_frame().unwrap() {
            let message: Value = serde_json::from_slice(frame.text).unwrap();
            if message["method"] == method {
                let refusal = json!({"id": message["id"], "error": "unknown method", "result": null});
                refuse.send(refusal.to_string()).await.unwrap();
            } else {
                to_server.write_all(frame.text).await.unwrap();
            }
        }
    }
}

/// A table with a column of every shape, and one whose rows live only while they are referred to.
fn schema() -> Value {
    let set_of = |base: &str| json!({"key": base, "min": 0, "max": "unlimited"});
    json!({
        "name": DATABASE,
        "version": "1.2.3",
        "tables": {
            "thing": {
                "isRoot": true,
                "indexes": [["name"]],
                "columns": {
                    "name": {"type": "string"},
                    "count": {"type": "integer"},
                    "weight": {"type": {"key": "real", "min": 0, "max": 1}},
                    "flags": {"type": set_of("string")},
                    "pair": {"type": {"key": "integer", "min": 1, "max": 2}},
                    "notes": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
                    "one_note": {"type": {"key": "string", "value": "integer", "min": 0, "max": 1}},
                    "parts": {"type": {"key": {"type": "uuid", "refTable": "part"}, "min": 0, "max": "unlimited"}},
                },
            },
            "part": {"columns": {"name": {"type": "string"}}},
        },
    })
}

/// A row of `thing`, or what is to change about one.
pub(crate) fn row(members: Value) -> Map<String, Value> {
    match members {
        Value::Object(members) => members,
        other => panic!("{other} is not an object"),
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap()
}
