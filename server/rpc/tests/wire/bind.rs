//! What a unix socket's path may be, and what happens to what is there.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use nonnet_rpc::{ListenError, Listeners, Remote, RemoteOptions, inbound_channel};
use tokio::net::UnixStream;

fn listen(path: &Path) -> Result<Listeners, ListenError> {
    let (sender, _) = inbound_channel();
    let mut listeners = Listeners::new(sender);
    listeners.start(Remote::PassiveUnix(path.to_owned()), RemoteOptions::default())?;
    Ok(listeners)
}

fn refusal(path: &Path) -> String {
    listen(path).map(|_| ()).unwrap_err().to_string()
}

#[tokio::test]
async fn socket_is_for_owner_and_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let _listeners = listen(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
}

#[tokio::test]
async fn socket_left_by_a_dead_server_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _listeners = listen(&path).unwrap();
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn socket_of_a_live_server_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let _first = listen(&path).unwrap();
    assert_eq!(
        refusal(&path),
        format!("{}: another server is already listening on this socket", path.display())
    );
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn directory_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_eq!(
        refusal(path),
        format!(
            "{0}: is a directory; give the path of the socket itself, for example {0}/nonnet.db.sock",
            path.display()
        )
    );
    assert!(path.is_dir());
}

#[tokio::test]
async fn file_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    fs::write(&path, "precious").unwrap();
    assert_eq!(
        refusal(&path),
        format!(
            "{}: exists and is a regular file, not a socket; it was left alone: remove it or choose another path",
            path.display()
        )
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn symbolic_link_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(refusal(&path).contains("is a symbolic link, not a socket"));
    assert!(path.is_symlink());
}

#[tokio::test]
async fn longest_path_is_that_of_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let room = 107 - directory.path().as_os_str().len() - 1;
    let _listeners = listen(&directory.path().join("x".repeat(room))).unwrap();
    let long = directory.path().join("x".repeat(room + 1));
    assert_eq!(
        refusal(&long),
        format!(
            "{}: this path has 108 bytes, and that of a unix socket may have at most 107",
            long.display()
        )
    );
}

#[tokio::test]
async fn missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("run");
    let path = missing.join("sock");
    assert_eq!(
        refusal(&path),
        format!("{}: the directory {} does not exist", path.display(), missing.display())
    );
}

#[tokio::test]
async fn stop_removes_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    listen(&path).unwrap().stop_accepting();
    assert!(!path.exists());
}

#[tokio::test]
async fn stop_keeps_the_socket_of_a_successor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let mut first = listen(&path).unwrap();
    // Kept under another name, so that its inode cannot be given to the successor's.
    fs::rename(&path, directory.path().join("old")).unwrap();
    let _second = listen(&path).unwrap();
    first.stop_accepting();
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn failed_start_leaves_the_others_running() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let mut listeners = listen(&path).unwrap();
    listeners
        .start(
            Remote::PassiveUnix(directory.path().to_owned()),
            RemoteOptions::default(),
        )
        .unwrap_err();
    assert_eq!(listeners.list().len(), 1);
    UnixStream::connect(&path).await.unwrap();
}
