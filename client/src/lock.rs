//! Locks: names that one connection at a time can own (RFC 7047 4.1.8 to 4.1.10).

use serde_json::Value;

use crate::{
    connection::{Connection, Notification, Notifications, Wanted},
    error::{CallError, Lost},
    method::not_understood,
};

/// A lock asked for, owned or not; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    connection: Connection,
    name: String,
    is_held: bool,
    notifications: Notifications,
    is_given_back: bool,
}

impl Connection {
    /// Asks for a lock; if another has it, this connection queues for it.
    ///
    /// # Errors
    ///
    /// [`CallError`]; a connection may ask for each name once.
    pub async fn lock(&self, name: &str) -> Result<Lock, CallError> {
        self.ask_for_lock("lock", name).await
    }

    /// Takes a lock from whoever has it.
    ///
    /// # Errors
    ///
    /// [`CallError`]; a connection may ask for each name once.
    pub async fn steal(&self, name: &str) -> Result<Lock, CallError> {
        self.ask_for_lock("steal", name).await
    }

    async fn ask_for_lock(&self, method: &str, name: &str) -> Result<Lock, CallError> {
        let notifications = self.subscribe(Wanted::Lock(name.to_owned()));
        let result = self.call(method, vec![name.into()]).await?;
        let is_held = result
            .get("locked")
            .and_then(Value::as_bool)
            .ok_or_else(|| not_understood(method, &"\"locked\" is not a boolean"))?;
        Ok(Lock {
            connection: self.clone(),
            name: name.to_owned(),
            is_held,
            notifications,
            is_given_back: false,
        })
    }
}

impl Lock {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this connection owns it, as far as the server has told. A transaction is sure of it only by
    /// [`Transaction::assert_lock`](crate::Transaction::assert_lock).
    pub fn is_held(&mut self) -> bool {
        while let Some(notification) = self.notifications.try_next() {
            self.is_held = tells_held(&notification);
        }
        self.is_held
    }

    /// Waits until the lock is won or stolen; tells whether it is held now.
    ///
    /// # Errors
    ///
    /// The connection is lost, and the lock with it.
    pub async fn changed(&mut self) -> Result<bool, Lost> {
        let notification = self.notifications.next().await?;
        self.is_held = tells_held(&notification);
        Ok(self.is_held)
    }

    /// Waits until the lock is held.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub async fn held(&mut self) -> Result<(), Lost> {
        while !self.is_held() {
            self.changed().await?;
        }
        Ok(())
    }

    /// Gives the lock back, or leaves the queue, and waits until the server has done so.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn unlock(mut self) -> Result<(), CallError> {
        self.is_given_back = true;
        self.connection
            .call("unlock", vec![self.name.as_str().into()])
            .await
            .map(|_| ())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.is_given_back {
            self.connection.call_and_forget("unlock", &[self.name.as_str().into()]);
        }
    }
}

fn tells_held(notification: &Notification) -> bool {
    notification.method == "locked"
}
