//! Connections with TLS to servers, for whoever is their client: streams of bytes, with the settings that all remotes have.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use crate::{
    dial::dial_tls,
    limits::DIAL_TIME_MAX,
    options::RemoteOptions,
    remote::Host,
    tls::{TlsKeeper, TlsStream},
};

/// Dials servers with TLS, with what it is made of at that moment.
#[derive(Clone, Debug)]
pub struct TlsDialler {
    keeper: Arc<TlsKeeper>,
}

/// A connection to a server, past its handshake. The server is told when it ends.
///
/// A write that was not taken must be tried again with the same bytes, as `write_all` does.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream,
}

impl TlsDialler {
    pub(crate) fn new(keeper: Arc<TlsKeeper>) -> Self {
        Self { keeper }
    }

    /// Connects to a server whose certificate somebody vouches for that the settings name; its own name is not looked at. Gives up after
    /// [`DIAL_TIME_MAX`].
    ///
    /// # Errors
    /// What is wrong with the settings, by option and file, or why there is no connection.
    pub async fn dial(&self, host: &Host) -> Result<TlsConnection, String> {
        let code_point = RemoteOptions::default().code_point();
        let dialled = timeout(DIAL_TIME_MAX, dial_tls(&self.keeper, host, code_point)).await;
        let stream = dialled.unwrap_or_else(|_| Err("Connection timed out".to_owned()))?;
        Ok(TlsConnection { stream })
    }
}

impl Drop for TlsConnection {
    fn drop(&mut self) {
        self.stream.end_output();
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.stream.tcp().poll_read_ready(context))?;
        }
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.try_write(&[IoSlice::new(bytes)]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            ready!(self.stream.tcp().poll_write_ready(context))?;
        }
    }

    /// What was written, the kernel has.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.end_output();
        Poll::Ready(Ok(()))
    }
}
