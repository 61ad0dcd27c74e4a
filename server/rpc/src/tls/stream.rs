//! A TCP connection with TLS on it, used through a shared reference like all streams.
//!
//! Plaintext that cannot be sent on at once is not taken: what [`try_write`](TlsStream::try_write) says was written, the kernel has.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::{ClientConnection, Connection, ServerConnection, pki_types::ServerName};
use tokio::{net::TcpStream, task::spawn_blocking};

use crate::{
    limits::TLS_WRITE_BYTES_MAX,
    tls::{bootstrap::bootstrap, error::TlsError, load::Loaded},
};

/// A TCP connection with TLS on it, past its handshake.
#[derive(Debug)]
pub(crate) struct TlsStream {
    tcp: TcpStream,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// Bytes that have come and can be read without the kernel.
    plaintext_bytes: usize,
    /// Bytes of the caller's that are encrypted and that the kernel has not all taken.
    unconfirmed_bytes: usize,
}

impl TlsStream {
    /// Lets a client in.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(crate) async fn accept(tcp: TcpStream, loaded: &Loaded) -> io::Result<Self> {
        let Some(config) = &loaded.server else {
            let path = loaded.bootstrap.clone().unwrap_or_default();
            return Err(io::Error::other(TlsError::NotBootstrapped { path }));
        };
        let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        Self::new(tcp, connection.into()).handshake().await
    }

    /// Asks to be let in by a server of the given name or address. The first one of a process that is bootstrapped only tells who is to be
    /// believed; the connection to it ends in an error.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(crate) async fn connect(tcp: TcpStream, loaded: &Loaded, name: &str) -> io::Result<Self> {
        let asked = loaded.server_name.as_deref().unwrap_or(name).to_owned();
        let name = ServerName::try_from(asked).map_err(io::Error::other)?;
        let connection = ClientConnection::new(loaded.client.clone(), name).map_err(io::Error::other)?;
        let stream = Self::new(tcp, connection.into()).handshake().await?;
        let Some(path) = loaded.bootstrap.clone() else {
            return Ok(stream);
        };
        let bootstrapped =
            spawn_blocking(move || bootstrap(&path, stream.state().connection.peer_certificates().unwrap_or_default()));
        bootstrapped.await?.map_err(io::Error::other)?;
        Err(io::Error::other("killing successful connection to retry using CA cert"))
    }

    fn new(tcp: TcpStream, mut connection: Connection) -> Self {
        // What is given to be encrypted is bounded by `encrypt`.
        connection.set_buffer_limit(None);
        let state = Mutex::new(State {
            connection,
            plaintext_bytes: 0,
            unconfirmed_bytes: 0,
        });
        Self { tcp, state }
    }

    /// Runs the handshake. What is costly in it is done on another thread than that of the sessions.
    async fn handshake(mut self) -> io::Result<Self> {
        loop {
            let turned = spawn_blocking(move || {
                let turned = self.state().shake_hands(&self.tcp);
                (self, turned)
            });
            let (stream, turned) = turned.await?;
            self = stream;
            match turned? {
                Turn::Done => return Ok(self),
                Turn::Reads => self.tcp.readable().await?,
                Turn::Writes => self.tcp.writable().await?,
            }
        }
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The common name in the peer's certificate; empty where it has shown none.
    pub(crate) fn peer_name(&self) -> ecow::EcoString {
        let state = self.state();
        let chain = state.connection.peer_certificates().unwrap_or_default();
        chain.first().map(super::common_name).unwrap_or_default()
    }

    /// Waits until a read may give something.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if self.state().plaintext_bytes > 0 {
            return Ok(());
        }
        self.tcp.readable().await
    }

    /// Waits until a write may take something.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads what is there; 0 at the end of input, whether or not the peer has said that it comes.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        loop {
            match state.connection.reader().read(buffer) {
                Ok(bytes) => {
                    state.plaintext_bytes = state.plaintext_bytes.saturating_sub(bytes);
                    return Ok(bytes);
                }
                // Half a message is noticed by who reads messages.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            state.plaintext_bytes = 0;
            state.receive(&self.tcp)?;
        }
    }

    /// Encrypts and writes. After `WouldBlock` it must be called again with the same bytes first: some of them may be on their way, and are
    /// told to be written once they are.
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state();
        if state.unconfirmed_bytes == 0 {
            state.flush(&self.tcp)?;
            state.unconfirmed_bytes = state.encrypt(slices)?;
        }
        state.flush(&self.tcp)?;
        Ok(std::mem::take(&mut state.unconfirmed_bytes))
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn end_output(&self) {
        let mut state = self.state();
        state.connection.send_close_notify();
        // Where the kernel takes nothing more, the end of the connection itself has to do.
        let _ = state.flush(&self.tcp);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic the connection fails by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handshake waits for.
enum Turn {
    Done,
    Reads,
    Writes,
}

impl State {
    /// Does what can be done of a handshake without waiting.
    fn shake_hands(&mut self, tcp: &TcpStream) -> io::Result<Turn> {
        loop {
            match self.flush(tcp) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Writes),
                Err(error) => return Err(error),
            }
            if !self.connection.is_handshaking() {
                return Ok(Turn::Done);
            }
            match self.receive(tcp) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Reads),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes from the kernel once, and decrypts; gives the bytes taken.
    fn receive(&mut self, tcp: &TcpStream) -> io::Result<usize> {
        let bytes = self.connection.read_tls(&mut Socket(tcp))?;
        let processed = self.connection.process_new_packets();
        // What TLS itself has to say, such as why it ends, goes out with what is written next, if not now.
        let flushed = self.flush(tcp);
        let done = processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.plaintext_bytes = done.plaintext_bytes_to_read();
        match flushed {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes),
        }
    }

    /// Encrypts the first bytes, and gives their number.
    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut writer = self.connection.writer();
        let mut bytes = 0;
        for slice in slices {
            let left = TLS_WRITE_BYTES_MAX - bytes;
            let part = &slice[..slice.len().min(left)];
            writer.write_all(part)?;
            bytes += part.len();
            if bytes == TLS_WRITE_BYTES_MAX {
                break;
            }
        }
        Ok(bytes)
    }

    /// Gives the kernel everything that is encrypted; `WouldBlock` where it does not take all of it.
    fn flush(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Socket(tcp))?;
        }
        Ok(())
    }
}

/// The socket as TLS wants it: reading and writing never wait.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.try_write(buffer)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
